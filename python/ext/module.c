/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module.c - the module kvtrans_engine._kvtrans: its state and what is in it. Importing it opens
 * nothing, and PyInit__kvtrans is the only symbol it exports.
 */
#include "paged.h"

#include <stddef.h>

static PyTypeObject *make_type(PyObject *module, PyType_Spec *spec)
{
	return (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
}

struct type_row {
	size_t offset; /* in the state */
	PyType_Spec *spec;
	bool is_public;
};

static const struct type_row type_rows[] = {
	{ offsetof(struct kvi_py_state, engine_type), &kvi_py_engine_spec, true },
	{ offsetof(struct kvi_py_state, transfer_type), &kvi_py_transfer_spec, true },
	{ offsetof(struct kvi_py_state, conn_type), &kvi_py_conn_spec, true },
	{ offsetof(struct kvi_py_state, pool_type), &kvi_py_pool_spec, true },
	{ offsetof(struct kvi_py_state, remote_type), &kvi_py_remote_spec, true },
	{ offsetof(struct kvi_py_state, kv_type), &kvi_py_kv_spec, false },
	{ offsetof(struct kvi_py_state, backing_type), &kvi_py_backing_spec, false },
	{ offsetof(struct kvi_py_state, export_type), &kvi_py_export_spec, false },
};

enum { TYPE_COUNT = sizeof(type_rows) / sizeof(type_rows[0]) };

static PyTypeObject **get_type(struct kvi_py_state *state, const struct type_row *row)
{
	return (PyTypeObject **)(void *)((char *)state + row->offset);
}

static int add_types(PyObject *module, struct kvi_py_state *state)
{
	for (size_t i = 0; i < TYPE_COUNT; i++) {
		PyTypeObject *type = make_type(module, type_rows[i].spec);
		*get_type(state, &type_rows[i]) = type;
		if (type == NULL || (type_rows[i].is_public && PyModule_AddType(module, type) < 0))
			return -1;
	}
	state->stats_type = PyStructSequence_NewType(&kvi_py_stats_desc);
	if (state->stats_type == NULL || PyModule_AddType(module, state->stats_type) < 0)
		return -1;
	state->notification_type = PyStructSequence_NewType(&kvi_py_notification_desc);
	return state->notification_type == NULL
		       ? -1
		       : PyModule_AddType(module, state->notification_type);
}

static int add_live_engines(PyObject *module, struct kvi_py_state *state)
{
	PyObject *weakref = PyImport_ImportModule("weakref");
	if (weakref == NULL)
		return -1;
	state->live_engines = PyObject_CallMethod(weakref, "WeakSet", NULL);
	Py_DECREF(weakref);
	return PyModule_AddObjectRef(module, "live_engines", state->live_engines);
}

static int module_exec(PyObject *module)
{
	struct kvi_py_state *state = PyModule_GetState(module);

	if (kvi_py_import_numpy() < 0 || kvi_py_add_errors(module, state) < 0 ||
	    add_types(module, state) < 0 || add_live_engines(module, state) < 0)
		return -1;
	if (PyModule_AddStringConstant(module, "__version__", kvt_get_version()) < 0 ||
	    PyModule_AddStringConstant(module, "COMPILER", __VERSION__) < 0)
		return -1;
	PyObject *numpy_build = kvi_py_get_numpy_build();
	int rc = PyModule_AddObjectRef(module, "NUMPY_BUILD", numpy_build);
	Py_XDECREF(numpy_build);
	return rc;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
	struct kvi_py_state *state = PyModule_GetState(module);

	for (size_t i = 0; i < TYPE_COUNT; i++)
		Py_VISIT(*get_type(state, &type_rows[i]));
	Py_VISIT(state->stats_type);
	Py_VISIT(state->notification_type);
	for (int i = 0; i < KVI_PY_CLASS_COUNT; i++)
		Py_VISIT(state->classes[i]);
	Py_VISIT(state->live_engines);
	return 0;
}

static int module_clear(PyObject *module)
{
	struct kvi_py_state *state = PyModule_GetState(module);

	for (size_t i = 0; i < TYPE_COUNT; i++)
		Py_CLEAR(*get_type(state, &type_rows[i]));
	Py_CLEAR(state->stats_type);
	Py_CLEAR(state->notification_type);
	for (int i = 0; i < KVI_PY_CLASS_COUNT; i++)
		Py_CLEAR(state->classes[i]);
	Py_CLEAR(state->live_engines);
	return 0;
}

static void module_free(void *module)
{
	module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
	{ Py_mod_exec, module_exec },
#if PY_VERSION_HEX >= 0x030C0000
	/* NumPy's table of functions is one per process, and NumPy refuses subinterpreters too. */
	{ Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED },
#endif
#if PY_VERSION_HEX >= 0x030D0000
	/* lock.h tells what stands in for it. */
	{ Py_mod_gil, Py_MOD_GIL_NOT_USED },
#endif
	{ 0, NULL },
};

static struct PyModuleDef module_def = {
	PyModuleDef_HEAD_INIT,
	.m_name = "kvtrans_engine._kvtrans",
	.m_doc = "The extension under kvtrans_engine; import that instead.",
	.m_size = sizeof(struct kvi_py_state),
	.m_slots = module_slots,
	.m_traverse = module_traverse,
	.m_clear = module_clear,
	.m_free = module_free,
};

PyMODINIT_FUNC PyInit__kvtrans(void)
{
	return PyModuleDef_Init(&module_def);
}
