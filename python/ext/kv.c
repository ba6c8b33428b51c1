/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.c - the classic calls on KVs: register, send, receive, and the object behind a KV's id. It
 * never waits: it starts transfers and transfer.c sees them through. users.c tells who owns a KV.
 *
 * Each start function does what may run Python code (parsing, buffers, dtypes) first and finds the
 * KV last, so that dereg_kv() in another thread cannot come between that and using the handle.
 */
#include "ext.h"

static int kv_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((struct kvi_py_kv *)self)->view.obj);
	return 0;
}

static void kv_dealloc(PyObject *self)
{
	struct kvi_py_kv *kv = (struct kvi_py_kv *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (kv->handle != NULL && !kvi_py_is_forked(kv->owner)) {
		PyThreadState *thread = kvi_py_begin_close();
		kvt_kv_close(kv->handle);
		kvi_py_end_close(thread);
	}
	PyBuffer_Release(&kv->view);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyType_Slot kv_slots[] = {
	{ Py_tp_dealloc, kv_dealloc },
	{ Py_tp_traverse, kv_traverse },
	{ 0, NULL },
};

PyType_Spec kvi_py_kv_spec = {
	.name = "kvtrans_engine._kvtrans.Kv",
	.basicsize = sizeof(struct kvi_py_kv),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = kv_slots,
};

/* ---- registering ---- */

/* Open kv on a connection: 1, 0 with last_error set, -1 when something is to be raised. */
static int open_kv(struct kvi_py_engine *engine, PyObject *conn_id, struct kvi_py_kv *kv,
		   uint64_t tag)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_error error = { 0 };
	struct kvi_py_engine *entered;

	config.base = kv->view.len > 0 ? kv->view.buf : NULL;
	config.len = (size_t)kv->view.len;
	config.read_only = kv->view.readonly;
	config.tag = tag;

	struct kvi_py_conn *conn =
		(struct kvi_py_conn *)kvi_py_find(engine->conns, conn_id, "connection");
	if (conn == NULL || kvi_py_enter_conn(conn, &entered) < 0)
		return -1;
	Py_INCREF(conn);
	PyThreadState *thread = PyEval_SaveThread();
	enum kvt_err err = kvt_kv_open(conn->handle, &config, &kv->handle, &error);
	PyEval_RestoreThread(thread);
	kvi_py_leave_conn(conn, entered);
	Py_DECREF(conn);
	if (err == KVT_OK && engine->closed) {
		err = KVT_E_CLOSED;
		error = (struct kvt_error){ err, 0, "the engine was closed meanwhile" };
	}
	return err == KVT_OK ? 1 : kvi_py_note_failure(engine, &error, 0);
}

PyObject *kvi_py_reg_kv(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "conn_id", "data", "tag", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyTypeObject *type = kvi_py_get_state(self)->kv_type;
	PyObject *conn_id, *data, *tag_object = Py_None, *result = NULL;
	uint64_t tag = KVT_TAG_AUTO;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:reg_kv", names, &conn_id, &data,
					 &tag_object))
		return NULL;
	if (tag_object != Py_None) {
		long long number;
		if (kvi_py_parse_int(tag_object, "tag", 0, (long long)(KVT_TAG_MAX - 1), &number) <
		    0)
			return NULL;
		tag = (uint64_t)number;
	}
	struct kvi_py_kv *kv = (struct kvi_py_kv *)type->tp_alloc(type, 0);
	if (kv == NULL)
		return NULL;
	kv->owner = engine->owner;
	if (kvi_py_check_open(engine) < 0 || kvi_py_get_view(data, "data", false, &kv->view) < 0)
		goto out_kv;
	int opened = open_kv(engine, conn_id, kv, tag);
	if (opened == 0) {
		result = Py_BuildValue("OO", Py_False, Py_None);
	} else if (opened > 0) {
		PyObject *id = kvi_py_add(engine, engine->kvs, (PyObject *)kv);
		result = id == NULL ? NULL : Py_BuildValue("ON", Py_True, id);
	}
out_kv:
	Py_DECREF(kv);
	return result;
}

PyObject *kvi_py_dereg_kv(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "kv_id", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *id;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:dereg_kv", names, &id) ||
	    kvi_py_check_open(engine) < 0)
		return NULL;
	PyObject *kv = kvi_py_take(engine->kvs, id, "KV");
	if (kv == NULL)
		return NULL;
	Py_DECREF(kv);
	Py_RETURN_TRUE;
}

/* ---- starting ---- */

/* The memory of a view, never NULL: in a request NULL means "none". */
static void *get_base(const Py_buffer *view)
{
	static char nothing;

	return view->len > 0 ? view->buf : &nothing;
}

static int start_send(struct kvi_py_call *call, PyObject *args, PyObject *kwargs,
		      const char *format)
{
	static char *names[] = { "kv_id", "data", "timeout", NULL };
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvi_py_meta meta;
	PyObject *kv_id, *data, *timeout = NULL;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &kv_id, &data, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &request.timeout_ns) < 0 ||
	    kvi_py_check_open(call->engine) < 0 ||
	    kvi_py_get_view(data, "data", false, &call->view) < 0)
		return -1;
	if (kvi_py_describe(data, &call->view, &meta) < 0)
		goto err_view;
	struct kvi_py_kv *kv = (struct kvi_py_kv *)kvi_py_find(call->engine->kvs, kv_id, "KV");
	if (kv == NULL)
		goto err_view;
	request.reap = call->is_tracked;
	request.base = get_base(&call->view);
	request.len = (size_t)call->view.len;
	request.meta = meta.bytes;
	request.meta_len = meta.len;
	(void)kvt_send_start(kv->handle, &request, &call->handle, &call->error);
	return 0;

err_view:
	PyBuffer_Release(&call->view);
	return -1;
}

static int start_recv(struct kvi_py_call *call, PyObject *args, PyObject *kwargs,
		      const char *format)
{
	static char *names[] = { "kv_id", "max_size", "timeout", NULL };
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	PyObject *kv_id, *max_size = Py_None, *timeout = NULL;
	long long len;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &kv_id, &max_size,
					 &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &request.timeout_ns) < 0 ||
	    kvi_py_check_open(call->engine) < 0)
		return -1;
	request.reap = call->is_tracked;
	request.len = SIZE_MAX;
	if (max_size != Py_None) {
		if (kvi_py_parse_int(max_size, "max_size", 0, PY_SSIZE_T_MAX, &len) < 0)
			return -1;
		request.len = (size_t)len;
	}
	struct kvi_py_kv *kv = (struct kvi_py_kv *)kvi_py_find(call->engine->kvs, kv_id, "KV");
	if (kv == NULL)
		return -1;
	(void)kvt_recv_start(kv->handle, &request, &call->handle, &call->error);
	return 0;
}

static int start_recv_into(struct kvi_py_call *call, PyObject *args, PyObject *kwargs,
			   const char *format)
{
	static char *names[] = { "kv_id", "out", "timeout", NULL };
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	PyObject *kv_id, *out = Py_None, *timeout = NULL;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &kv_id, &out, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &request.timeout_ns) < 0 ||
	    kvi_py_check_open(call->engine) < 0)
		return -1;
	if (out != Py_None && kvi_py_get_view(out, "out", true, &call->view) < 0)
		return -1;
	struct kvi_py_kv *kv = (struct kvi_py_kv *)kvi_py_find(call->engine->kvs, kv_id, "KV");
	if (kv == NULL)
		goto err_view;
	const Py_buffer *view = out != Py_None ? &call->view : &kv->view;
	if (view->readonly) {
		PyErr_SetString(PyExc_TypeError, "the registered memory is read-only: pass out");
		goto err_view;
	}
	request.reap = call->is_tracked;
	request.base = get_base(view);
	request.len = (size_t)view->len;
	(void)kvt_recv_start(kv->handle, &request, &call->handle, &call->error);
	return 0;

err_view:
	PyBuffer_Release(&call->view);
	return -1;
}

/* ---- the calls ---- */

PyObject *kvi_py_send_kv(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_call call = { .engine = (struct kvi_py_engine *)self, .kind = KVI_PY_SEND };
	PyObject *value;

	if (start_send(&call, args, kwargs, "OO|O:send_kv") < 0)
		return NULL;
	int finished = kvi_py_finish(&call, &value);
	if (finished < 0)
		return NULL;
	return finished > 0 ? value : Py_NewRef(Py_False);
}

PyObject *kvi_py_recv_kv(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_call call = { .engine = (struct kvi_py_engine *)self, .kind = KVI_PY_RECV };
	PyObject *value;

	if (start_recv(&call, args, kwargs, "O|OO:recv_kv") < 0)
		return NULL;
	int finished = kvi_py_finish(&call, &value);
	if (finished < 0)
		return NULL;
	return finished > 0 ? Py_BuildValue("ON", Py_True, value)
			    : Py_BuildValue("OO", Py_False, Py_None);
}

PyObject *kvi_py_recv_kv_into(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_call call = { .engine = (struct kvi_py_engine *)self,
				    .kind = KVI_PY_RECV_INTO };
	PyObject *value;

	if (start_recv_into(&call, args, kwargs, "O|OO:recv_kv_into") < 0)
		return NULL;
	int finished = kvi_py_finish(&call, &value);
	if (finished < 0)
		return NULL;
	return finished > 0 ? Py_BuildValue("ON", Py_True, value)
			    : Py_BuildValue("Oi", Py_False, 0);
}

static PyObject *start_async(PyObject *self, PyObject *args, PyObject *kwargs, const char *format,
			     enum kvi_py_kind kind)
{
	static int (*const starts[])(struct kvi_py_call *, PyObject *, PyObject *, const char *) = {
		[KVI_PY_SEND] = start_send,
		[KVI_PY_RECV] = start_recv,
		[KVI_PY_RECV_INTO] = start_recv_into,
	};
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvi_py_call call = { .engine = engine, .kind = kind, .is_tracked = true };
	PyObject *transfer = NULL;

	kvi_py_begin_start(engine);
	if (starts[kind](&call, args, kwargs, format) == 0)
		transfer = kvi_py_make_transfer(&call);
	kvi_py_end_start(engine);
	return transfer;
}

PyObject *kvi_py_send_kv_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return start_async(self, args, kwargs, "OO|O:send_kv_async", KVI_PY_SEND);
}

PyObject *kvi_py_recv_kv_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return start_async(self, args, kwargs, "O|OO:recv_kv_async", KVI_PY_RECV);
}

PyObject *kvi_py_recv_kv_into_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return start_async(self, args, kwargs, "O|OO:recv_kv_into_async", KVI_PY_RECV_INTO);
}
