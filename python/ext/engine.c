/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - the type Engine: closing, ids, last_error. It never moves data: conn.c, kv.c and
 * stats.c hold the other methods, config.c what the constructor takes.
 *
 * Who may use a handle, and when it is freed. The GIL guards every field here.
 *
 * - Engine. A call that gives up the GIL inside the library counts itself in `users` (kvi_py_enter,
 *   kvi_py_leave). close() marks the engine closed, so that nobody new enters, and stops it, which
 *   wakes whoever is inside; the last user out closes the handle.
 * - Connection. Its object is owned by the table `conns` and by each call that uses the handle
 *   without the GIL. disconnect() takes it out of the table; the last reference closes the handle.
 * - KV. Its handle is used with the GIL held only (starting a transfer never blocks), between
 *   finding it in the table `kvs` and giving up the GIL. So dereg_kv() takes it out of the table
 *   and closes it at once, without the GIL: nobody can reach it any more, and the library ends the
 *   transfers that are in flight on it. Its buffer is released after that.
 * - Transfer. It belongs to the call that started it, or to a Transfer object that all who wait
 *   have a reference to.
 *
 * In a forked child nothing but kvt_engine_close() is called, and the handles below an engine are
 * left alone: they are the parent's.
 */
#include "ext.h"

#include <stddef.h>
#include <structmember.h>
#include <unistd.h>

/* ---- Ctrl-C ---- */

/* This thread is in a call that closes or frees, which nothing may cut short. */
static _Thread_local bool is_closing;

PyThreadState *kvi_py_begin_close(void)
{
	is_closing = true;
	return PyEval_SaveThread();
}

void kvi_py_end_close(PyThreadState *thread)
{
	PyEval_RestoreThread(thread);
	is_closing = false;
}

/* The library calls this on the thread that waits, which gave up the GIL to call the library. */
int kvi_py_check_interrupt(void *arg)
{
	(void)arg;
	if (is_closing)
		return 0;
	PyGILState_STATE gil = PyGILState_Ensure();
	int interrupted = PyErr_Occurred() != NULL || PyErr_CheckSignals() < 0;
	PyGILState_Release(gil);
	return interrupted;
}

/* ---- users and ids ---- */

bool kvi_py_is_forked(pid_t owner)
{
	return owner != getpid();
}

int kvi_py_check_open(struct kvi_py_engine *engine)
{
	if (engine->closed) {
		PyErr_SetString(PyExc_ValueError, "engine is closed");
		return -1;
	}
	if (kvi_py_is_forked(engine->owner)) {
		struct kvt_error error = { KVT_E_FORKED, 0,
					   "an engine does not survive fork; spawn" };
		kvi_py_raise(kvi_py_get_state((PyObject *)engine), &error, 0);
		return -1;
	}
	return 0;
}

int kvi_py_enter(struct kvi_py_engine *engine)
{
	if (kvi_py_check_open(engine) < 0)
		return -1;
	engine->users++;
	return 0;
}

void kvi_py_leave(struct kvi_py_engine *engine)
{
	if (--engine->users > 0 || !engine->closed)
		return;
	struct kvt_engine *handle = engine->handle;
	engine->handle = NULL;
	PyThreadState *thread = kvi_py_begin_close();
	kvt_engine_close(handle);
	kvi_py_end_close(thread);
}

static PyObject *get_index(PyObject *id, const char *noun)
{
	PyObject *index = PyNumber_Index(id);
	if (index == NULL && PyErr_ExceptionMatches(PyExc_TypeError))
		PyErr_Format(PyExc_TypeError, "the id of a %s is an int, not %.200s", noun,
			     Py_TYPE(id)->tp_name);
	return index;
}

PyObject *kvi_py_find(PyObject *table, PyObject *id, const char *noun)
{
	PyObject *index = get_index(id, noun);
	if (index == NULL)
		return NULL;
	PyObject *object = PyDict_GetItemWithError(table, index);
	if (object == NULL && !PyErr_Occurred())
		PyErr_Format(PyExc_ValueError, "no %s %S on this engine", noun, index);
	Py_DECREF(index);
	return object;
}

PyObject *kvi_py_take(PyObject *table, PyObject *id, const char *noun)
{
	PyObject *index = get_index(id, noun);
	if (index == NULL)
		return NULL;
	PyObject *object = Py_XNewRef(kvi_py_find(table, index, noun));
	if (object != NULL && PyDict_DelItem(table, index) < 0)
		Py_CLEAR(object);
	Py_DECREF(index);
	return object;
}

PyObject *kvi_py_add(struct kvi_py_engine *engine, PyObject *table, PyObject *object)
{
	PyObject *id = PyLong_FromLongLong(++kvi_py_get_state((PyObject *)engine)->last_id);
	if (id != NULL && PyDict_SetItem(table, id, object) < 0)
		Py_CLEAR(id);
	return id;
}

int kvi_py_note_failure(struct kvi_py_engine *engine, const struct kvt_error *error, size_t size)
{
	struct kvi_py_state *state = kvi_py_get_state((PyObject *)engine);

	if (kvi_py_is_raised(error->code)) {
		kvi_py_raise(state, error, size);
		return -1;
	}
	PyObject *object = kvi_py_make_error(state, error, size);
	if (object == NULL)
		return -1;
	Py_XSETREF(engine->last_error, object);
	return 0;
}

/* ---- opening and closing ---- */

static void close_engine(struct kvi_py_engine *self)
{
	if (self->closed)
		return;
	self->closed = true;
	self->users++;
	if (!kvi_py_is_forked(self->owner)) {
		PyThreadState *thread = kvi_py_begin_close();
		kvt_engine_stop(self->handle);
		kvi_py_end_close(thread);
	}
	PyDict_Clear(self->kvs);
	PyDict_Clear(self->conns);
	kvi_py_leave(self);
}

static PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_state *state = PyType_GetModuleState(type);
	struct kvi_py_engine *self = (struct kvi_py_engine *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->closed = true; /* nothing to close until it is open */
	self->owner = getpid();
	self->conns = PyDict_New();
	self->kvs = PyDict_New();
	if (self->conns == NULL || self->kvs == NULL || kvi_py_open_engine(self, args, kwargs) < 0)
		goto err_self;
	PyObject *added = PyObject_CallMethod(state->live_engines, "add", "O", self);
	if (added == NULL)
		goto err_self;
	Py_DECREF(added);
	return (PyObject *)self;

err_self:
	close_engine(self);
	Py_DECREF(self);
	return NULL;
}

static PyObject *engine_close(PyObject *self, PyObject *args)
{
	(void)args;
	close_engine((struct kvi_py_engine *)self);
	Py_RETURN_NONE;
}

static PyObject *engine_enter(PyObject *self, PyObject *args)
{
	(void)args;
	return kvi_py_check_open((struct kvi_py_engine *)self) < 0 ? NULL : Py_NewRef(self);
}

static void engine_finalize(PyObject *self)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *type, *value, *traceback;

	if (engine->closed)
		return;
	PyErr_Fetch(&type, &value, &traceback);
	if (!kvi_py_is_forked(engine->owner) &&
	    PyErr_ResourceWarning(self, 1, "unclosed engine %R", self) < 0)
		PyErr_WriteUnraisable(self);
	close_engine(engine);
	PyErr_Restore(type, value, traceback);
}

static int engine_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(engine->conns);
	Py_VISIT(engine->kvs);
	Py_VISIT(engine->last_error);
	return 0;
}

/* The tables stay: a cycle through a registered buffer is broken by the finalizer, which closes. */
static int engine_clear(PyObject *self)
{
	Py_CLEAR(((struct kvi_py_engine *)self)->last_error);
	return 0;
}

static void engine_dealloc(PyObject *self)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (PyObject_CallFinalizerFromDealloc(self) < 0)
		return;
	PyObject_GC_UnTrack(self);
	if (engine->weakrefs != NULL)
		PyObject_ClearWeakRefs(self);
	Py_CLEAR(engine->conns);
	Py_CLEAR(engine->kvs);
	Py_CLEAR(engine->last_error);
	type->tp_free(self);
	Py_DECREF(type);
}

/* ---- attributes ---- */

static PyObject *engine_get_port(PyObject *self, void *closure)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)closure;
	return kvi_py_check_open(engine) < 0 ? NULL
					     : PyLong_FromLong(kvt_engine_get_port(engine->handle));
}

static PyObject *engine_get_provider(PyObject *self, void *closure)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)closure;
	return kvi_py_check_open(engine) < 0
		       ? NULL
		       : PyUnicode_FromString(kvt_engine_get_provider(engine->handle));
}

static PyObject *engine_get_last_error(PyObject *self, void *closure)
{
	PyObject *last_error = ((struct kvi_py_engine *)self)->last_error;

	(void)closure;
	return Py_NewRef(last_error != NULL ? last_error : Py_None);
}

static PyObject *engine_get_closed(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct kvi_py_engine *)self)->closed);
}

static PyObject *engine_repr(PyObject *self)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	if (engine->closed)
		return PyUnicode_FromString("<kvtrans_engine.Engine, closed>");
	if (kvi_py_is_forked(engine->owner))
		return PyUnicode_FromString("<kvtrans_engine.Engine of the parent process>");
	return PyUnicode_FromFormat("<kvtrans_engine.Engine on port %d, %s>",
				    (int)kvt_engine_get_port(engine->handle),
				    kvt_engine_get_provider(engine->handle));
}

static PyMemberDef engine_members[] = {
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(struct kvi_py_engine, weakrefs), READONLY,
	  NULL },
	{ NULL, 0, 0, 0, NULL },
};

static PyGetSetDef engine_getset[] = {
	{ "port", engine_get_port, NULL, "The TCP port that connect() of a peer takes.", NULL },
	{ "provider", engine_get_provider, NULL, "The libfabric provider in use.", NULL },
	{ "last_error", engine_get_last_error, NULL,
	  "The exception object of the last classic call that failed, or None.", NULL },
	{ "closed", engine_get_closed, NULL, "True once close() was called.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

#define METHOD(name, function, doc)                                                                \
	{                                                                                          \
		name, (PyCFunction)(void (*)(void))function, METH_VARARGS | METH_KEYWORDS, doc     \
	}

static PyMethodDef engine_methods[] = {
	METHOD("connect", kvi_py_connect,
	       "connect($self, host, port, timeout=5.0)\n--\n\n"
	       "Connect to the engine at host:port: (True, conn_id), or (False, None)."),
	METHOD("accept", kvi_py_accept,
	       "accept($self, timeout=None)\n--\n\n"
	       "Take the next peer that connected: (True, ip, port, conn_id), or\n"
	       "(False, None, None, None). Without a timeout it waits for ever."),
	METHOD("disconnect", kvi_py_disconnect,
	       "disconnect($self, conn_id)\n--\n\n"
	       "Close a connection; what is in flight on it fails. Its KVs stay until dereg_kv()."),
	METHOD("status", kvi_py_status,
	       "status($self, conn_id)\n--\n\n"
	       "None while the connection is open, else the exception object that says why not."),
	METHOD("stats", kvi_py_stats,
	       "stats($self, conn_id=None)\n--\n\n"
	       "Counters of the engine or of one connection, as a dict of int. send_latency is a\n"
	       "list: item i counts sends that took from 2**i up to 2**(i + 1) nanoseconds."),
	METHOD("reg_kv", kvi_py_reg_kv,
	       "reg_kv($self, conn_id, data, tag=None)\n--\n\n"
	       "Bind the memory of data to a connection: (True, kv_id), or (False, None). Without "
	       "a\n"
	       "tag the n-th KV on this side meets the n-th on the other. data is kept until\n"
	       "dereg_kv()."),
	METHOD("dereg_kv", kvi_py_dereg_kv,
	       "dereg_kv($self, kv_id)\n--\n\n"
	       "Undo reg_kv(): fail what is in flight and let go of the memory, which nobody "
	       "touches\n"
	       "any more."),
	METHOD("send_kv", kvi_py_send_kv,
	       "send_kv($self, kv_id, data, timeout=60.0)\n--\n\n"
	       "Send data with its dtype and shape. True once the receiver has it, else False."),
	METHOD("recv_kv", kvi_py_recv_kv,
	       "recv_kv($self, kv_id, max_size=None, timeout=None)\n--\n\n"
	       "Receive a message of at most max_size bytes: (True, ndarray), or (False, None). "
	       "The\n"
	       "array owns its memory."),
	METHOD("recv_kv_into", kvi_py_recv_kv_into,
	       "recv_kv_into($self, kv_id, out=None, timeout=None)\n--\n\n"
	       "Receive into out, or into the registered memory: (True, nbytes), or (False, 0)."),
	METHOD("send_kv_async", kvi_py_send_kv_async,
	       "send_kv_async($self, kv_id, data, timeout=60.0)\n--\n\n"
	       "Start send_kv() and return a Transfer whose result is True. Never blocks; raises\n"
	       "when it cannot start. data must stay unchanged until the transfer is done."),
	METHOD("recv_kv_async", kvi_py_recv_kv_async,
	       "recv_kv_async($self, kv_id, max_size=None, timeout=None)\n--\n\n"
	       "Start recv_kv() and return a Transfer whose result is an ndarray. Never blocks;\n"
	       "raises when it cannot start."),
	METHOD("recv_kv_into_async", kvi_py_recv_kv_into_async,
	       "recv_kv_into_async($self, kv_id, out=None, timeout=None)\n--\n\n"
	       "Start recv_kv_into() and return a Transfer whose result is the message's length "
	       "in\n"
	       "bytes. Never blocks; raises when it cannot start."),
	{ "close", engine_close, METH_NOARGS,
	  "close($self)\n--\n\n"
	  "Tell the peers, fail what is in flight, free everything. Takes about 1 s at most, and\n"
	  "may be called again." },
	{ "__enter__", engine_enter, METH_NOARGS, "__enter__($self)\n--\n\nReturn the engine." },
	{ "__exit__", engine_close, METH_VARARGS,
	  "__exit__($self, exc_type, exc_value, traceback)\n--\n\nClose the engine." },
	{ NULL, NULL, 0, NULL },
};

static const char engine_doc[] =
	"Engine(interface, ncpus=None, nconn_per_cpu=None, listen_port=0, *, provider=None, "
	"eager_len=None, heartbeat=None, lost_after=None, spin=None, cpus=None)\n--\n\n"
	"Moves KV cache to and from other processes over one or more network interfaces.\n\n"
	"interface: a name, an RDMA device, an IP address, or a sequence of them. ncpus: workers.\n"
	"nconn_per_cpu: lanes per worker and connection. listen_port: 0 takes a free one. "
	"eager_len:\n"
	"bytes, 0 turns eager sends off. heartbeat, lost_after, spin: seconds. cpus: CPUs to pin\n"
	"workers to. Every method may be called from any thread; docs/python.md is the manual.";

static PyType_Slot engine_slots[] = {
	{ Py_tp_doc, (void *)engine_doc },
	{ Py_tp_new, engine_new },
	{ Py_tp_finalize, engine_finalize },
	{ Py_tp_dealloc, engine_dealloc },
	{ Py_tp_traverse, engine_traverse },
	{ Py_tp_clear, engine_clear },
	{ Py_tp_repr, engine_repr },
	{ Py_tp_members, engine_members },
	{ Py_tp_getset, engine_getset },
	{ Py_tp_methods, engine_methods },
	{ 0, NULL },
};

PyType_Spec kvi_py_engine_spec = {
	.name = "kvtrans_engine.Engine",
	.basicsize = sizeof(struct kvi_py_engine),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = engine_slots,
};
