/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.c - other keys for an engine that is open. No key is kept here.
 */
#include "ext.h"

PyObject *kvi_py_reload_keys(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "auth_key", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	Py_buffer auth_key = { .obj = NULL };
	struct kvt_error error = { 0 };

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|z*:reload_keys", names, &auth_key))
		return NULL;
	enum kvt_err err = KVT_OK;
	if (kvi_py_enter(engine) == 0) {
		PyThreadState *thread = PyEval_SaveThread();
		err = kvt_engine_reload_keys(engine->handle, auth_key.buf, (size_t)auth_key.len,
					     &error);
		PyEval_RestoreThread(thread);
		kvi_py_leave(engine);
		if (err != KVT_OK)
			kvi_py_raise(kvi_py_get_state(self), &error, 0);
	}
	PyBuffer_Release(&auth_key);
	return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}
