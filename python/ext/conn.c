/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.c - connecting, accepting, closing, and the calls of Engine that name a connection by its id.
 * connection.c has the type Connection; users.c tells who owns one.
 */
#include "paged.h"

#include <string.h>

static void close_handle(struct kvt_conn *handle)
{
	PyThreadState *thread = kvi_py_begin_close();
	kvt_conn_close(handle);
	kvi_py_end_close(thread);
}

/* ---- who uses it ---- */

int kvi_py_enter_conn(struct kvi_py_conn *conn, struct kvi_py_engine **engine)
{
	struct kvi_py_engine *found = kvi_py_ref_engine(conn->engine);

	if (found == NULL) {
		PyErr_SetString(PyExc_ValueError, "connection is closed");
		return -1;
	}
	if (kvi_py_enter(found) < 0) {
		Py_DECREF(found);
		return -1;
	}
	conn->users++;
	*engine = found;
	return 0;
}

bool kvi_py_is_usable(struct kvi_py_conn *conn)
{
	if (conn->engine == NULL) {
		PyErr_SetString(PyExc_ValueError, "connection is closed");
		return false;
	}
	return kvi_py_check_open(conn->engine) == 0;
}

PyObject *kvi_py_get_lost(struct kvi_py_conn *conn)
{
	struct kvt_error error = { 0 };

	if (!kvi_py_is_usable(conn))
		return NULL;
	if (kvt_conn_get_status(conn->handle, &error) == KVT_OK)
		Py_RETURN_NONE;
	return kvi_py_make_error(kvi_py_get_state((PyObject *)conn), &error, 0);
}

/* Closing an export gives up the GIL: each is taken out of the table first. */
void kvi_py_drop_exports(PyObject *table, PyObject *pool)
{
	PyObject *items = PyDict_Items(table);

	for (Py_ssize_t i = 0; items != NULL && i < PyList_GET_SIZE(items); i++) {
		PyObject *key = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 0);
		PyObject *exported = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 1);
		if ((pool == NULL || ((struct kvi_py_export *)exported)->pool == pool) &&
		    PyDict_GetItemWithError(table, key) == exported)
			(void)PyDict_DelItem(table, key);
	}
	Py_XDECREF(items); /* and here they are closed */
	PyErr_Clear();
}

/* Close the handle of a closed connection that nobody uses any more. */
static void finish_close(struct kvi_py_conn *conn, struct kvi_py_engine *engine)
{
	struct kvt_conn *handle = conn->handle;
	PyObject *type, *value, *traceback;

	if (conn->users > 0 || !conn->closed || handle == NULL)
		return;
	PyErr_Fetch(&type, &value, &traceback);
	conn->handle = NULL;
	if (!kvi_py_is_forked(conn->owner))
		close_handle(handle);
	kvi_py_remove_handle(engine, conn, handle);
	kvi_py_drop_exports(conn->exports, NULL);
	PyList_SetSlice(conn->on_lost, 0, PY_SSIZE_T_MAX, NULL);
	PyErr_Restore(type, value, traceback);
}

void kvi_py_leave_conn(struct kvi_py_conn *conn, struct kvi_py_engine *engine)
{
	conn->users--;
	finish_close(conn, engine);
	kvi_py_leave(engine);
	Py_DECREF(engine);
}

void kvi_py_close_conn(struct kvi_py_conn *conn)
{
	struct kvi_py_engine *engine = kvi_py_ref_engine(conn->engine);
	PyObject *type, *value, *traceback;

	if (engine == NULL)
		return;
	Py_INCREF(conn);
	PyErr_Fetch(&type, &value, &traceback);
	conn->closed = true;
	conn->engine = NULL;
	engine->users++; /* its handle must outlive the connection's */
	if (PyDict_GetItemWithError(engine->conns, conn->id) != NULL)
		PyDict_DelItem(engine->conns, conn->id);
	finish_close(conn, engine);
	kvi_py_leave(engine);
	Py_DECREF(engine);
	PyErr_Restore(type, value, traceback);
	Py_DECREF(conn);
}

/* ---- opening ---- */

struct kvi_py_conn *kvi_py_make_conn(struct kvi_py_engine *engine)
{
	PyTypeObject *type = kvi_py_get_state((PyObject *)engine)->conn_type;
	struct kvi_py_conn *conn = (struct kvi_py_conn *)type->tp_alloc(type, 0);

	if (conn == NULL)
		return NULL;
	conn->owner = engine->owner;
	conn->exports = PyDict_New();
	conn->on_lost = PyList_New(0);
	if (conn->exports == NULL || conn->on_lost == NULL)
		Py_CLEAR(conn);
	return conn;
}

int kvi_py_attach_conn(struct kvi_py_engine *engine, struct kvi_py_conn *conn,
		       struct kvt_conn *handle)
{
	conn->handle = handle;
	conn->id = kvi_py_add(engine, engine->conns, (PyObject *)conn);
	if (conn->id == NULL)
		goto err_handle;
	conn->engine = engine;
	if (kvi_py_add_handle(engine, conn) < 0) {
		kvi_py_close_conn(conn);
		goto err_handle;
	}
	return 0;

err_handle:
	if (conn->handle != NULL)
		close_handle(conn->handle);
	conn->handle = NULL;
	return -1;
}

struct kvi_py_conn *kvi_py_add_conn(struct kvi_py_engine *engine, struct kvt_conn *handle)
{
	struct kvi_py_conn *conn = kvi_py_make_conn(engine);

	if (conn == NULL)
		close_handle(handle);
	else if (kvi_py_attach_conn(engine, conn, handle) < 0)
		Py_CLEAR(conn);
	return conn;
}

/*
 * After kvt_conn_open or kvt_conn_accept: 1 and *conn, 0 and the error, -1 when an exception is set.
 * A connection that came together with Ctrl-C or close() is closed.
 */
static int settle_conn(struct kvi_py_engine *engine, struct kvt_conn *handle,
		       struct kvt_error *error, struct kvi_py_conn **conn)
{
	if (PyErr_Occurred() || (handle != NULL && engine->closed)) {
		close_handle(handle);
		if (PyErr_Occurred())
			return -1;
		*error = (struct kvt_error){ KVT_E_CLOSED, 0, "the engine was closed meanwhile" };
		handle = NULL;
	}
	if (handle == NULL)
		return 0;
	*conn = kvi_py_add_conn(engine, handle);
	return *conn == NULL ? -1 : 1;
}

/* Whom to call: a host and a port, or an engine's address. */
struct target {
	const char *host;
	long long port;
	Py_buffer address; /* its obj is NULL when host says it */
};

static int parse_target(PyObject *host, PyObject *port, struct target *target)
{
	target->address.obj = NULL;
	if (PyUnicode_Check(host)) {
		Py_ssize_t len;
		target->host = PyUnicode_AsUTF8AndSize(host, &len);
		if (target->host != NULL && strlen(target->host) != (size_t)len) {
			PyErr_SetString(PyExc_ValueError, "host has a null character");
			return -1;
		}
		if (port == NULL || port == Py_None) {
			PyErr_SetString(PyExc_TypeError, "a host needs a port");
			return -1;
		}
		return target->host == NULL || kvi_py_parse_int(port, "port", 1, UINT16_MAX,
								&target->port) < 0
			       ? -1
			       : 0;
	}
	if (!PyObject_CheckBuffer(host)) {
		PyErr_Format(PyExc_TypeError,
			     "host must be a str, or bytes of an engine's address, not %.200s",
			     Py_TYPE(host)->tp_name);
		return -1;
	}
	if (port != NULL && port != Py_None) {
		PyErr_SetString(PyExc_TypeError, "an engine's address has its port in it");
		return -1;
	}
	return PyObject_GetBuffer(host, &target->address, PyBUF_SIMPLE);
}

static int open_conn(struct kvi_py_engine *engine, PyObject *args, PyObject *kwargs,
		     const char *format, struct kvt_error *error, struct kvi_py_conn **conn)
{
	static char *names[] = { "host", "port", "timeout", NULL };
	struct kvt_conn *handle = NULL;
	PyObject *host, *port = NULL, *timeout = NULL;
	struct target target;
	int64_t timeout_ns;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &host, &port, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &timeout_ns) < 0 ||
	    parse_target(host, port, &target) < 0)
		return -1;
	if (kvi_py_enter(engine) < 0) {
		PyBuffer_Release(&target.address);
		return -1;
	}
	kvi_py_begin_open(engine);
	PyThreadState *thread = PyEval_SaveThread();
	if (target.address.obj == NULL)
		(void)kvt_conn_open(engine->handle, target.host, (uint16_t)target.port, timeout_ns,
				    &handle, error);
	else
		(void)kvt_conn_open_address(engine->handle, target.address.buf,
					    (size_t)target.address.len, timeout_ns, &handle, error);
	PyEval_RestoreThread(thread);
	PyBuffer_Release(&target.address);
	int settled = settle_conn(engine, handle, error, conn);
	kvi_py_end_open(engine);
	kvi_py_leave(engine);
	return settled;
}

PyObject *kvi_py_connect_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "host", "port", "timeout", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvi_py_call call = { .engine = engine, .kind = KVI_PY_CONNECT, .is_tracked = true };
	struct kvt_connect_request request = KVT_CONNECT_REQUEST_INIT;
	PyObject *host, *port = NULL, *timeout = NULL, *transfer = NULL;
	struct target target;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:connect_async", names, &host, &port,
					 &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &request.timeout_ns) < 0 ||
	    parse_target(host, port, &target) < 0)
		return NULL;
	request.reap = true;
	if (target.address.obj != NULL) {
		request.address = target.address.buf;
		request.address_len = (size_t)target.address.len;
	} else {
		request.host = target.host;
		request.port = (uint16_t)target.port;
	}
	if (kvi_py_enter(engine) == 0) {
		kvt_connect_start(engine->handle, &request, &call.handle, &call.error);
		transfer = kvi_py_make_transfer(&call);
		kvi_py_leave(engine);
	}
	PyBuffer_Release(&target.address);
	return transfer;
}

static int accept_conn(struct kvi_py_engine *engine, PyObject *args, PyObject *kwargs,
		       const char *format, struct kvt_error *error, struct kvi_py_conn **conn)
{
	static char *names[] = { "timeout", NULL };
	struct kvt_conn *handle = NULL;
	PyObject *timeout = NULL;
	int64_t timeout_ns;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &timeout_ns) < 0 || kvi_py_enter(engine) < 0)
		return -1;
	kvi_py_begin_open(engine);
	PyThreadState *thread = PyEval_SaveThread();
	(void)kvt_conn_accept(engine->handle, timeout_ns, &handle, error);
	PyEval_RestoreThread(thread);
	int settled = settle_conn(engine, handle, error, conn);
	kvi_py_end_open(engine);
	kvi_py_leave(engine);
	return settled;
}

/* ---- the calls of Engine ---- */

PyObject *kvi_py_connect(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvt_error error = { 0 };
	struct kvi_py_conn *conn;

	int settled = open_conn(engine, args, kwargs, "O|OO:connect", &error, &conn);
	if (settled < 0 || (settled == 0 && kvi_py_note_failure(engine, &error, 0) < 0))
		return NULL;
	if (settled == 0)
		return Py_BuildValue("OO", Py_False, Py_None);
	PyObject *result = Py_BuildValue("OO", Py_True, conn->id);
	Py_DECREF(conn);
	return result;
}

PyObject *kvi_py_accept(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvt_error error = { 0 };
	struct kvi_py_conn *conn;

	int settled = accept_conn(engine, args, kwargs, "|O:accept", &error, &conn);
	if (settled < 0 || (settled == 0 && kvi_py_note_failure(engine, &error, 0) < 0))
		return NULL;
	if (settled == 0)
		return Py_BuildValue("OOOO", Py_False, Py_None, Py_None, Py_None);
	PyObject *result = NULL;
	if (kvi_py_is_usable(conn))
		result = Py_BuildValue("OsiO", Py_True, kvt_conn_get_host(conn->handle),
				       (int)kvt_conn_get_port(conn->handle), conn->id);
	Py_DECREF(conn);
	return result;
}

PyObject *kvi_py_open_connection(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvt_error error = { 0 };
	struct kvi_py_conn *conn = NULL;

	if (open_conn((struct kvi_py_engine *)self, args, kwargs, "O|OO:open_connection", &error,
		      &conn) == 0)
		kvi_py_raise(kvi_py_get_state(self), &error, 0);
	return (PyObject *)conn;
}

PyObject *kvi_py_accept_connection(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvt_error error = { 0 };
	struct kvi_py_conn *conn = NULL;

	if (accept_conn((struct kvi_py_engine *)self, args, kwargs, "|O:accept_connection", &error,
			&conn) == 0)
		kvi_py_raise(kvi_py_get_state(self), &error, 0);
	return (PyObject *)conn;
}

/* ---- peers that the engine tells of ---- */

static int check_accept_events(struct kvi_py_engine *engine)
{
	if (kvi_py_check_open(engine) < 0)
		return -1;
	if (engine->accept_events)
		return 0;
	PyErr_SetString(PyExc_ValueError, "this engine was opened without accept_events=True");
	return -1;
}

PyObject *kvi_py_accepted(PyObject *self, PyObject *args)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)args;
	if (check_accept_events(engine) < 0 || kvi_py_enter_and_pull(engine) < 0)
		return NULL;
	PyObject *fresh = PyList_New(0);
	if (fresh == NULL || PyList_GET_SIZE(engine->dispatch.arrivals) == 0)
		return fresh;
	PyObject *arrivals = engine->dispatch.arrivals;
	engine->dispatch.arrivals = fresh;
	kvi_py_sync_ready(&engine->dispatch);
	return arrivals;
}

PyObject *kvi_py_next_arrival(PyObject *self, PyObject *args)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)args;
	if (check_accept_events(engine) < 0)
		return NULL;
	if (PyList_GET_SIZE(engine->dispatch.arrivals) == 0 && kvi_py_enter_and_pull(engine) < 0)
		return NULL;
	PyObject *arrivals = engine->dispatch.arrivals;
	if (PyList_GET_SIZE(arrivals) == 0)
		Py_RETURN_NONE;
	PyObject *conn = Py_NewRef(PyList_GET_ITEM(arrivals, 0));
	if (PyList_SetSlice(arrivals, 0, 1, NULL) < 0)
		Py_CLEAR(conn);
	kvi_py_sync_ready(&engine->dispatch);
	return conn;
}

PyObject *kvi_py_connection(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "conn_id", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *id;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:connection", names, &id) ||
	    kvi_py_check_open(engine) < 0)
		return NULL;
	return Py_XNewRef(kvi_py_find(engine->conns, id, "connection"));
}

PyObject *kvi_py_disconnect(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "conn_id", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *id;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:disconnect", names, &id) ||
	    kvi_py_check_open(engine) < 0)
		return NULL;
	PyObject *conn = Py_XNewRef(kvi_py_find(engine->conns, id, "connection"));
	if (conn == NULL)
		return NULL;
	kvi_py_close_conn((struct kvi_py_conn *)conn);
	Py_DECREF(conn);
	Py_RETURN_TRUE;
}

PyObject *kvi_py_status(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "conn_id", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *id;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:status", names, &id) ||
	    kvi_py_check_open(engine) < 0)
		return NULL;
	PyObject *conn = kvi_py_find(engine->conns, id, "connection");
	return conn == NULL ? NULL : kvi_py_get_lost((struct kvi_py_conn *)conn);
}
