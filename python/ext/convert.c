/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.c - numbers and times from Python, with errors that name the parameter and what is allowed.
 * It never calls the library.
 */
#include "ext.h"

#include <math.h>
#include <time.h>

int kvi_py_parse_int(PyObject *value, const char *name, long long min, long long max,
		     long long *number)
{
	PyObject *index = PyNumber_Index(value);
	if (index == NULL) {
		if (PyErr_ExceptionMatches(PyExc_TypeError))
			PyErr_Format(PyExc_TypeError, "%s must be an int, not %.200s", name,
				     Py_TYPE(value)->tp_name);
		return -1;
	}
	int overflow;
	long long parsed = PyLong_AsLongLongAndOverflow(index, &overflow);
	if (overflow != 0 || parsed < min || parsed > max) {
		if (!PyErr_Occurred())
			PyErr_Format(PyExc_ValueError, "%s must be from %lld to %lld, not %S", name,
				     min, max, index);
		Py_DECREF(index);
		return -1;
	}
	Py_DECREF(index);
	*number = parsed;
	return 0;
}

int kvi_py_parse_seconds(PyObject *value, const char *name, int64_t *ns)
{
	static const double longest = 1e9; /* 32 years, or for ever */

	if (value == NULL || value == Py_None) {
		*ns = 0;
		return 0;
	}
	double seconds = PyFloat_AsDouble(value);
	if (seconds == -1.0 && PyErr_Occurred()) {
		if (PyErr_ExceptionMatches(PyExc_TypeError))
			PyErr_Format(PyExc_TypeError,
				     "%s must be a number of seconds or None, not %.200s", name,
				     Py_TYPE(value)->tp_name);
		return -1;
	}
	if (isnan(seconds) || seconds < 0) {
		PyErr_Format(PyExc_ValueError, "%s must be 0 or more seconds, not %R", name, value);
		return -1;
	}
	if (seconds == 0)
		*ns = KVT_NOWAIT;
	else if (seconds >= longest)
		*ns = KVT_FOREVER;
	else
		*ns = seconds < 1e-9 ? 1 : (int64_t)(seconds * 1e9);
	return 0;
}

int64_t kvi_py_get_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t kvi_py_get_slice(int64_t timeout_ns, int64_t began_ns)
{
	static const int64_t slice_ns = 100 * 1000 * 1000;
	int64_t left = slice_ns;

	if (timeout_ns == KVT_NOWAIT)
		left = 0;
	else if (timeout_ns != 0 && timeout_ns != KVT_FOREVER)
		left = timeout_ns - (kvi_py_get_now() - began_ns);
	return left <= 0 ? KVT_NOWAIT : left < slice_ns ? left : slice_ns;
}
