/* SPDX-License-Identifier: Apache-2.0 */
/*
 * errors.c - KVT_ERROR_MAP as Python exceptions. It decides which class a code gets, never whether
 * something is an error.
 */
#include "ext.h"

#include <string.h>

struct class_row {
	const char *name;
	PyObject **base; /* besides Error; NULL: none */
	const char *doc;
};

static const struct class_row class_rows[KVI_PY_CLASS_COUNT] = {
	[KVI_PY_ERROR] = { "kvtrans_engine.Error", NULL,
			   "An operation failed.\n\n"
			   "code: int, the library's number; name: str, such as 'KVT_E_TIMEOUT'; "
			   "scope: str,\n"
			   "what the error costs: 'call', 'transfer', 'connection' or 'engine';\n"
			   "provider_errno: int of the system or libfabric, or None; nbytes: int, "
			   "bytes of a\n"
			   "message that was too large, or None." },
	[KVI_PY_PEER_LOST] = { "kvtrans_engine.PeerLost", &PyExc_ConnectionError,
			       "The peer closed its side, died, or was silent for too long." },
	[KVI_PY_UNREACHABLE] = { "kvtrans_engine.Unreachable", &PyExc_ConnectionError,
				 "The peer refused the connection or did not answer in time." },
	[KVI_PY_AUTH_ERROR] = { "kvtrans_engine.AuthError", &PyExc_PermissionError,
				"The peer has no key in common with this engine." },
	[KVI_PY_PROTOCOL_ERROR] = { "kvtrans_engine.ProtocolError", NULL,
				    "The peer broke the protocol, or speaks no version of it that "
				    "we do." },
	[KVI_PY_TRANSFER_TIMEOUT] = { "kvtrans_engine.TransferTimeout", &PyExc_TimeoutError,
				      "The deadline of a transfer or of accept() passed." },
	[KVI_PY_CANCELLED] = { "kvtrans_engine.Cancelled", NULL, "The transfer was cancelled." },
	[KVI_PY_TOO_LARGE] = { "kvtrans_engine.TooLarge", NULL,
			       "The message is larger than the receive allows; nbytes is its "
			       "length "
			       "in bytes.\n\n"
			       "It stays for a larger receive." },
	[KVI_PY_ACCESS_ERROR] = { "kvtrans_engine.AccessError", &PyExc_PermissionError,
				  "The peer's export does not allow this direction." },
	[KVI_PY_WITHDRAWN] = { "kvtrans_engine.Withdrawn", NULL,
			       "The peer has withdrawn this memory: its pool, or the export, is "
			       "closed." },
	[KVI_PY_CORRUPT] = { "kvtrans_engine.Corrupt", NULL,
			     "Bytes were changed on their way, as checksums tell "
			     "(Engine(checksum=True))." },
	[KVI_PY_CLOSED] = { "kvtrans_engine.Closed", NULL,
			    "This side closed the KV, pool, connection or engine while the "
			    "operation was "
			    "in flight." },
	[KVI_PY_FORKED] = { "kvtrans_engine.Forked", &PyExc_RuntimeError,
			    "An engine was used in a forked child; use the spawn start method." },
};

/* No default: a new code without a class is a compiler warning. */
static enum kvi_py_class choose_class(enum kvt_err err)
{
	switch (err) {
	case KVT_E_TIMEOUT:
		return KVI_PY_TRANSFER_TIMEOUT;
	case KVT_E_CANCELLED:
		return KVI_PY_CANCELLED;
	case KVT_E_TOO_LARGE:
		return KVI_PY_TOO_LARGE;
	case KVT_E_ACCESS:
		return KVI_PY_ACCESS_ERROR;
	case KVT_E_WITHDRAWN:
		return KVI_PY_WITHDRAWN;
	case KVT_E_CORRUPT:
		return KVI_PY_CORRUPT;
	case KVT_E_CLOSED:
		return KVI_PY_CLOSED;
	case KVT_E_FORKED:
		return KVI_PY_FORKED;
	case KVT_E_UNREACHABLE:
		return KVI_PY_UNREACHABLE;
	case KVT_E_PEER_LOST:
	case KVT_E_PEER_CLOSED:
		return KVI_PY_PEER_LOST;
	case KVT_E_PROTOCOL:
	case KVT_E_VERSION:
		return KVI_PY_PROTOCOL_ERROR;
	case KVT_E_AUTH:
		return KVI_PY_AUTH_ERROR;
	case KVT_OK:
	case KVT_E_INVALID:
	case KVT_E_NO_MEMORY:
	case KVT_E_UNSUPPORTED:
	case KVT_E_AGAIN:
	case KVT_E_LIMIT:
	case KVT_E_NO_PROVIDER:
	case KVT_E_FABRIC:
	case KVT_E_INTERNAL:
		break;
	}
	return KVI_PY_ERROR;
}

static const char *get_scope_name(enum kvt_scope scope)
{
	switch (scope) {
	case KVT_SCOPE_CALL:
		return "call";
	case KVT_SCOPE_TRANSFER:
		return "transfer";
	case KVT_SCOPE_CONNECTION:
		return "connection";
	case KVT_SCOPE_ENGINE:
		return "engine";
	case KVT_SCOPE_NONE:
		break;
	}
	return "none";
}

/* The sentence of an error, or the general one of its code. */
static const char *get_text(const struct kvt_error *error)
{
	return error->text[0] != '\0' ? error->text : kvt_err_get_text(error->code);
}

/* Set an attribute to a value whose reference is used up; NULL means that making it failed. */
static int set_new(PyObject *object, const char *name, PyObject *value)
{
	if (value == NULL)
		return -1;
	int rc = PyObject_SetAttrString(object, name, value);
	Py_DECREF(value);
	return rc;
}

static PyObject *decode_text(const char *text)
{
	return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

PyObject *kvi_py_make_error(struct kvi_py_state *state, const struct kvt_error *error, size_t size)
{
	PyObject *text = decode_text(get_text(error));
	if (text == NULL)
		return NULL;
	PyObject *object = PyObject_CallOneArg(state->classes[choose_class(error->code)], text);
	Py_DECREF(text);
	if (object == NULL)
		return NULL;

	const char *scope = get_scope_name(kvt_err_get_scope(error->code));
	if (set_new(object, "code", PyLong_FromLong(error->code)) < 0 ||
	    set_new(object, "name", decode_text(kvt_err_get_name(error->code))) < 0 ||
	    set_new(object, "scope", decode_text(scope)) < 0)
		goto err_object;
	if (error->provider_errno != 0 &&
	    set_new(object, "provider_errno", PyLong_FromLong(error->provider_errno)) < 0)
		goto err_object;
	if (error->code == KVT_E_TOO_LARGE &&
	    set_new(object, "nbytes", PyLong_FromSize_t(size)) < 0)
		goto err_object;
	return object;

err_object:
	Py_DECREF(object);
	return NULL;
}

bool kvi_py_is_raised(enum kvt_err err)
{
	return err == KVT_E_INVALID || err == KVT_E_NO_MEMORY || err == KVT_E_FORKED;
}

void kvi_py_raise(struct kvi_py_state *state, const struct kvt_error *error, size_t size)
{
	if (error->code == KVT_E_NO_MEMORY || error->code == KVT_E_INVALID) {
		PyObject *class = error->code == KVT_E_INVALID ? PyExc_ValueError
							       : PyExc_MemoryError;
		PyErr_SetString(class, get_text(error));
		return;
	}
	PyObject *object = kvi_py_make_error(state, error, size);
	if (object == NULL)
		return;
	PyErr_SetObject((PyObject *)Py_TYPE(object), object);
	Py_DECREF(object);
}

/* Error is Exception with defaults for the attributes; the others are Error and a builtin. */
static PyObject *make_class(const struct class_row *row, PyObject *error_class)
{
	if (error_class == NULL) {
		PyObject *defaults = Py_BuildValue("{sOsOsOsOsO}", "code", Py_None, "name", Py_None,
						   "scope", Py_None, "provider_errno", Py_None,
						   "nbytes", Py_None);
		if (defaults == NULL)
			return NULL;
		PyObject *class = PyErr_NewExceptionWithDoc(row->name, row->doc, NULL, defaults);
		Py_DECREF(defaults);
		return class;
	}
	PyObject *bases = row->base == NULL ? PyTuple_Pack(1, error_class)
					    : PyTuple_Pack(2, error_class, *row->base);
	if (bases == NULL)
		return NULL;
	PyObject *class = PyErr_NewExceptionWithDoc(row->name, row->doc, bases, NULL);
	Py_DECREF(bases);
	return class;
}

static const enum kvt_err all_codes[] = {
#define ERROR_CODE(code, value, scope, text) code,
	KVT_ERROR_MAP(ERROR_CODE)
#undef ERROR_CODE
};

/* ERRORS: a dict of name to (code, scope, text, class). */
static PyObject *make_error_table(struct kvi_py_state *state)
{
	PyObject *table = PyDict_New();
	if (table == NULL)
		return NULL;
	for (size_t i = 0; i < sizeof(all_codes) / sizeof(all_codes[0]); i++) {
		enum kvt_err err = all_codes[i];
		const char *scope = get_scope_name(kvt_err_get_scope(err));
		PyObject *row = Py_BuildValue("issO", (int)err, scope, kvt_err_get_text(err),
					      state->classes[choose_class(err)]);
		int rc = row == NULL ? -1 : PyDict_SetItemString(table, kvt_err_get_name(err), row);
		Py_XDECREF(row);
		if (rc < 0) {
			Py_DECREF(table);
			return NULL;
		}
	}
	return table;
}

int kvi_py_add_errors(PyObject *module, struct kvi_py_state *state)
{
	for (int i = 0; i < KVI_PY_CLASS_COUNT; i++) {
		state->classes[i] = make_class(&class_rows[i], state->classes[KVI_PY_ERROR]);
		if (state->classes[i] == NULL)
			return -1;
		const char *short_name = strchr(class_rows[i].name, '.') + 1;
		if (PyModule_AddObjectRef(module, short_name, state->classes[i]) < 0)
			return -1;
	}
	PyObject *table = make_error_table(state);
	int rc = PyModule_AddObjectRef(module, "ERRORS", table);
	Py_XDECREF(table);
	return rc;
}
