/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.c - numbers from Python, with errors that name the parameter and what is allowed. It
 * never calls the library.
 */
#include "ext.h"

#include <math.h>

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

int kvi_py_parse_seconds(PyObject *value, const char *name, int64_t none, int64_t zero, int64_t *ns)
{
	/* About 146 years, which the library can still add to the time of day without overflow. */
	static const int64_t longest_ns = INT64_MAX / 2;

	if (value == NULL || value == Py_None) {
		*ns = none;
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
		*ns = zero;
	else if (seconds >= (double)longest_ns / 1e9)
		*ns = longest_ns;
	else
		*ns = seconds < 1e-9 ? 1 : (int64_t)(seconds * 1e9);
	return 0;
}
