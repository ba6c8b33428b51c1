/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - the type Transfer: asking for an outcome, callbacks, cancelling. It starts nothing;
 * outcome.c waits and converts, dispatch.c tells it that a paged transfer has ended.
 */
#include "paged.h"

#include <stddef.h>
#include <structmember.h>

PyObject *kvi_py_make_transfer(struct kvi_py_call *call)
{
	struct kvi_py_state *state = kvi_py_get_state((PyObject *)call->engine);
	struct kvi_py_transfer *self = NULL;

	if (call->handle == NULL)
		kvi_py_raise(state, &call->error, 0);
	else
		self = (struct kvi_py_transfer *)state->transfer_type->tp_alloc(
			state->transfer_type, 0);
	if (self == NULL) {
		Py_XDECREF(call->remote);
		kvi_py_end_call(call->handle, &call->view);
		return NULL;
	}
	self->handle = call->handle;
	self->engine = Py_NewRef((PyObject *)call->engine);
	self->remote = call->remote;
	self->view = call->view;
	self->kind = call->kind;
	self->owner = call->engine->owner;
	self->is_unowned = call->kind < KVI_PY_WRITE;
	if (call->is_tracked && kvi_py_track(call->engine, self) < 0)
		Py_CLEAR(self);
	return (PyObject *)self;
}

static PyObject *catch_exception(void)
{
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	Py_XDECREF(type);
	Py_XDECREF(traceback);
	return value;
}

static bool is_settled(const struct kvi_py_transfer *self)
{
	return self->value != NULL || self->exception != NULL;
}

/* The object for what a connect has made, before the library hands that out: making it may run Python code. */
static struct kvi_py_conn *make_conn(struct kvi_py_transfer *self, struct kvi_py_outcome *outcome)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self->engine;

	if (self->kind != KVI_PY_CONNECT || outcome->error.code != KVT_OK)
		return NULL;
	if (engine != NULL && !engine->closed)
		return kvi_py_make_conn(engine);
	outcome->error = (struct kvt_error){ KVT_E_CLOSED, 0, "the engine was closed meanwhile" };
	return NULL;
}

/* An import is of no use on a connection that was closed since. */
static void check_conn(const struct kvi_py_transfer *self, struct kvi_py_outcome *outcome)
{
	const struct kvi_py_remote *remote = (struct kvi_py_remote *)self->remote;

	if (remote != NULL && outcome->error.code == KVT_OK &&
	    ((struct kvi_py_conn *)remote->conn)->closed)
		outcome->error = (struct kvt_error){ KVT_E_CLOSED, 0,
						     "the connection was closed meanwhile" };
}

/* The Remote of an import that has succeeded. */
static PyObject *take_remote(struct kvi_py_transfer *self)
{
	struct kvi_py_remote *remote = (struct kvi_py_remote *)self->remote;

	remote->handle = kvt_transfer_take_remote(self->handle);
	self->remote = NULL;
	return (PyObject *)remote;
}

/* Uses up conn. */
static PyObject *take_conn(struct kvi_py_transfer *self, struct kvi_py_conn *conn)
{
	static const struct kvt_error closed = { KVT_E_CLOSED, 0,
						 "the engine was closed or lost its descriptors "
						 "before the connection was taken" };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self->engine;
	struct kvt_conn *handle = conn == NULL ? NULL : kvt_transfer_take_conn(self->handle);

	if (conn == NULL)
		return NULL;
	if (handle == NULL) {
		kvi_py_raise(kvi_py_get_state((PyObject *)self), &closed, 0);
		Py_CLEAR(conn);
	} else if (kvi_py_attach_conn(engine, conn, handle) < 0) {
		Py_CLEAR(conn);
	}
	return (PyObject *)conn;
}

/* A call has made a connection, and nobody was given it. */
static bool has_own_conn(const struct kvi_py_transfer *self)
{
	return self->kind == KVI_PY_CONNECT && self->value != NULL && !self->is_given;
}

/* Close the connection of a call that has ended and that nobody asked for its result: it was cancelled then. */
static void give_up_conn(struct kvi_py_transfer *self)
{
	struct kvt_error error = { KVT_E_CANCELLED, 0, "cancelled by this side" };

	if (!has_own_conn(self))
		return;
	kvi_py_raise(kvi_py_get_state((PyObject *)self), &error, 0);
	PyObject *exception = catch_exception();
	if (!has_own_conn(self)) { /* another thread was here meanwhile */
		Py_XDECREF(exception);
		return;
	}
	PyObject *conn = self->value;
	self->value = NULL;
	self->exception = exception;
	self->is_given_up = true;
	kvi_py_close_conn((struct kvi_py_conn *)conn);
	Py_DECREF(conn);
}

int kvi_py_settle(struct kvi_py_transfer *self)
{
	struct kvi_py_outcome outcome = { .len = 0 };
	PyObject *exception = NULL;

	if (is_settled(self))
		return 0;
	if (kvi_py_read_outcome(self->handle, self->kind, &outcome) < 0)
		return -1;
	check_conn(self, &outcome);
	struct kvi_py_conn *conn = make_conn(self, &outcome);
	if (outcome.error.code != KVT_OK) {
		kvi_py_raise(kvi_py_get_state((PyObject *)self), &outcome.error, outcome.len);
		exception = catch_exception();
	} else if (PyErr_Occurred()) {
		exception = catch_exception();
	}
	if (is_settled(self)) { /* by another thread, meanwhile */
		Py_XDECREF(outcome.description.dtype);
		Py_XDECREF(exception);
		Py_XDECREF(conn);
		return 0;
	}
	if (exception == NULL) {
		if (self->kind == KVI_PY_CONNECT)
			self->value = take_conn(self, conn);
		else if (self->kind == KVI_PY_IMPORT)
			self->value = take_remote(self);
		else
			self->value = kvi_py_take_value(self->handle, self->kind, &outcome);
		if (self->value == NULL)
			exception = catch_exception();
	}
	self->exception = exception;
	PyBuffer_Release(&self->view);
	if (self->is_abandoned)
		give_up_conn(self);
	return 0;
}

static int check_fork(struct kvi_py_transfer *self)
{
	struct kvt_error error = { .code = KVT_E_FORKED };

	if (!kvi_py_is_forked(self->owner))
		return 0;
	kvi_py_raise(kvi_py_get_state((PyObject *)self), &error, 0);
	return -1;
}

/* The outcome goes to a caller: the engine need not keep it for reap(). */
static void take(struct kvi_py_transfer *self)
{
	if (self->is_taken || self->engine == NULL)
		return;
	self->is_taken = true;
	kvi_py_untrack((struct kvi_py_engine *)self->engine, self);
}

/* Wait for the outcome as result() and exception() do. */
static int await_outcome(struct kvi_py_transfer *self, PyObject *args, PyObject *kwargs,
			 const char *format)
{
	static char *names[] = { "timeout", NULL };
	PyObject *timeout = NULL;
	int64_t timeout_ns;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &timeout_ns) < 0)
		return -1;
	if (!is_settled(self)) {
		if (check_fork(self) < 0)
			return -1;
		int done = kvi_py_wait_for(self->handle, timeout_ns);
		if (done == 0)
			PyErr_SetString(PyExc_TimeoutError, "the transfer is still in flight");
		if (done <= 0 || kvi_py_settle(self) < 0)
			return -1;
	}
	take(self);
	kvi_py_run_callbacks(self);
	return 0;
}

static PyObject *transfer_result(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	if (await_outcome(transfer, args, kwargs, "|O:result") < 0)
		return NULL;
	if (transfer->value != NULL) {
		transfer->is_given = true;
		return Py_NewRef(transfer->value);
	}
	PyErr_SetObject((PyObject *)Py_TYPE(transfer->exception), transfer->exception);
	return NULL;
}

static PyObject *transfer_exception(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	if (await_outcome(transfer, args, kwargs, "|O:exception") < 0)
		return NULL;
	return Py_NewRef(transfer->exception != NULL ? transfer->exception : Py_None);
}

/* ---- callbacks ---- */

void kvi_py_run_callbacks(struct kvi_py_transfer *transfer)
{
	PyObject *callbacks = transfer->callbacks;

	transfer->callbacks = NULL;
	for (Py_ssize_t i = 0; callbacks != NULL && i < PyList_GET_SIZE(callbacks); i++)
		kvi_py_call_back(PyList_GET_ITEM(callbacks, i), (PyObject *)transfer);
	Py_XDECREF(callbacks);
}

static PyObject *transfer_add_done_callback(PyObject *self, PyObject *callback)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	if (!PyCallable_Check(callback)) {
		PyErr_Format(PyExc_TypeError, "add_done_callback() takes a callable, not %.200s",
			     Py_TYPE(callback)->tp_name);
		return NULL;
	}
	if (!is_settled(transfer)) {
		if (check_fork(transfer) < 0)
			return NULL;
		if (kvt_transfer_is_done(transfer->handle) && kvi_py_settle(transfer) < 0)
			return NULL;
	}
	if (is_settled(transfer)) {
		take(transfer);
		kvi_py_call_back(callback, self);
		Py_RETURN_NONE;
	}
	if (transfer->is_detached) {
		PyErr_SetString(PyExc_ValueError, "the transfer was detached: nobody is told");
		return NULL;
	}
	if (transfer->callbacks == NULL)
		transfer->callbacks = PyList_New(0);
	if (transfer->callbacks == NULL || PyList_Append(transfer->callbacks, callback) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *transfer_await(PyObject *self)
{
	PyObject *aio = PyImport_ImportModule("kvtrans_engine.aio");
	if (aio == NULL)
		return NULL;
	PyObject *iterator = PyObject_CallMethod(aio, "await_transfer", "O", self);
	Py_DECREF(aio);
	return iterator;
}

/* ---- attributes and other methods ---- */

static PyStructSequence_Field stats_fields[] = {
	{ "nbytes", "Bytes moved, or of the message." },
	{ "segments", "RMA operations it took; 0 when it went as a message." },
	{ "submit_ns", "Nanoseconds in the call that started it." },
	{ "transfer_ns", "Nanoseconds from start to completion." },
	{ "count", "Blocks in all extents, or spans, that were asked for; 1: a message." },
	{ "started_ns", "When the call that started it began, by time.monotonic_ns()." },
	{ NULL, NULL },
};

PyStructSequence_Desc kvi_py_stats_desc = {
	.name = "kvtrans_engine.TransferStats",
	.doc = "What a transfer moved, and how long it took.",
	.fields = stats_fields,
	.n_in_sequence = 6,
};

static PyObject *transfer_stats(PyObject *self, PyObject *args)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;
	struct kvt_result result = KVT_RESULT_INIT;

	(void)args;
	if (check_fork(transfer) < 0)
		return NULL;
	if (kvt_transfer_get_result(transfer->handle, &result) != KVT_OK)
		Py_RETURN_NONE;
	PyObject *stats = PyStructSequence_New(kvi_py_get_state(self)->stats_type);
	if (stats == NULL)
		return NULL;
	PyStructSequence_SetItem(stats, 0, PyLong_FromSize_t(result.len));
	PyStructSequence_SetItem(stats, 1, PyLong_FromUnsignedLongLong(result.segments));
	PyStructSequence_SetItem(stats, 2, PyLong_FromLongLong(result.submit_ns));
	PyStructSequence_SetItem(stats, 3, PyLong_FromLongLong(result.transfer_ns));
	PyStructSequence_SetItem(stats, 4, PyLong_FromUnsignedLongLong(result.count));
	PyStructSequence_SetItem(stats, 5, PyLong_FromLongLong(result.started_ns));
	if (PyErr_Occurred())
		Py_CLEAR(stats);
	return stats;
}

/* For aio.py: the engine that will tell when it has ended. */
static PyObject *transfer_get_teller(PyObject *self, void *closure)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	(void)closure;
	return Py_NewRef(transfer->engine != NULL ? transfer->engine : Py_None);
}

static PyMemberDef transfer_members[] = {
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(struct kvi_py_transfer, weakrefs), READONLY,
	  NULL },
	{ NULL, 0, 0, 0, NULL },
};

KVI_PY_LOCKED_GETTER(transfer_get_teller)

static PyGetSetDef transfer_getset[] = {
	{ "_teller", transfer_get_teller_locked, NULL, "The engine that tells when it has ended.",
	  NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyObject *transfer_done(PyObject *self, PyObject *args)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	(void)args;
	if (is_settled(transfer))
		Py_RETURN_TRUE;
	return check_fork(transfer) < 0 ? NULL
					: PyBool_FromLong(kvt_transfer_is_done(transfer->handle));
}

static PyObject *transfer_cancel(PyObject *self, PyObject *args)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	(void)args;
	if (is_settled(transfer))
		Py_RETURN_FALSE;
	if (check_fork(transfer) < 0)
		return NULL;
	if (kvt_transfer_is_done(transfer->handle))
		Py_RETURN_FALSE;
	kvt_transfer_cancel(transfer->handle);
	Py_RETURN_TRUE;
}

/* For aio.py: who waited was cancelled, and nobody will ask. */
static PyObject *transfer_abandon(PyObject *self, PyObject *args)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	(void)args;
	if (check_fork(transfer) < 0)
		return NULL;
	transfer->is_abandoned = true;
	if (!is_settled(transfer) && !kvt_transfer_is_done(transfer->handle))
		kvt_transfer_cancel(transfer->handle);
	else if (transfer->kind == KVI_PY_CONNECT && kvi_py_settle(transfer) < 0)
		return NULL;
	give_up_conn(transfer);
	Py_RETURN_NONE;
}

static PyObject *transfer_detach(PyObject *self, PyObject *args)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	(void)args;
	if (check_fork(transfer) < 0)
		return NULL;
	if (transfer->kind == KVI_PY_CONNECT || transfer->kind == KVI_PY_IMPORT) {
		PyErr_Format(PyExc_ValueError, "%s is its caller's: it cannot be detached",
			     transfer->kind == KVI_PY_CONNECT ? "a call to a peer" : "an import");
		return NULL;
	}
	if (transfer->is_unowned) {
		PyErr_SetString(PyExc_ValueError, "the transfer of an array is its caller's: it "
						  "cannot be detached");
		return NULL;
	}
	if (transfer->callbacks != NULL) {
		PyErr_SetString(PyExc_ValueError, "somebody waits to be told of this transfer");
		return NULL;
	}
	transfer->is_detached = true;
	take(transfer);
	Py_RETURN_NONE;
}

static PyObject *transfer_cancelled(PyObject *self, PyObject *args)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;
	struct kvt_result result = KVT_RESULT_INIT;

	(void)args;
	if (check_fork(transfer) < 0)
		return NULL;
	return PyBool_FromLong(transfer->is_given_up ||
			       (kvt_transfer_get_result(transfer->handle, &result) == KVT_OK &&
				result.err == KVT_E_CANCELLED));
}

static PyObject *transfer_repr(PyObject *self)
{
	static const char *const calls[] = { "send_kv", "recv_kv", "recv_kv_into", "connect",
					     "import",	"write",   "read",	   "notify" };
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;
	struct kvt_result result = KVT_RESULT_INIT;
	const char *state = "in flight";

	if (kvi_py_is_forked(transfer->owner))
		state = "of the parent process";
	else if (transfer->is_given_up)
		state = kvt_err_get_name(KVT_E_CANCELLED);
	else if (kvt_transfer_get_result(transfer->handle, &result) == KVT_OK)
		state = result.err == KVT_OK ? "done" : kvt_err_get_name(result.err);
	return PyUnicode_FromFormat("<kvtrans_engine.Transfer: %s, %s>", calls[transfer->kind],
				    state);
}

KVI_PY_LOCKED_REPR(transfer_repr)

static int transfer_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(transfer->engine);
	Py_VISIT(transfer->remote);
	Py_VISIT(transfer->view.obj);
	Py_VISIT(transfer->callbacks);
	Py_VISIT(transfer->value);
	Py_VISIT(transfer->exception);
	return 0;
}

/* The engine's tables have its handle no longer than this. */
static void forget(struct kvi_py_transfer *self)
{
	struct kvi_py_section section;

	if (!self->is_unowned || self->engine == NULL)
		return;
	kvi_py_lock(&section, Py_TYPE(self));
	kvi_py_untrack((struct kvi_py_engine *)self->engine, self);
	kvi_py_unlock(&section);
}

/* Nobody can ask for the connection that a call has made: who closes it, if not we? */
static void close_conn(struct kvi_py_transfer *self)
{
	struct kvi_py_section section;

	if (!has_own_conn(self))
		return;
	kvi_py_lock(&section, Py_TYPE(self));
	kvi_py_close_conn((struct kvi_py_conn *)self->value);
	kvi_py_unlock(&section);
}

/* The buffer and the outcome stay: a method that runs in a finalizer may still need them. */
static int transfer_clear(PyObject *self)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;

	Py_CLEAR(transfer->callbacks);
	forget(transfer);
	Py_CLEAR(transfer->engine);
	return 0;
}

static void transfer_dealloc(PyObject *self)
{
	struct kvi_py_transfer *transfer = (struct kvi_py_transfer *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	forget(transfer); /* before anything that may let another thread run */
	if (transfer->weakrefs != NULL)
		PyObject_ClearWeakRefs(self);
	close_conn(transfer);
	if (transfer->is_detached)
		kvt_transfer_detach(transfer->handle);
	else
		kvi_py_end_call(kvi_py_is_forked(transfer->owner) ? NULL : transfer->handle,
				&transfer->view);
	Py_CLEAR(transfer->engine);
	Py_CLEAR(transfer->remote);
	Py_CLEAR(transfer->callbacks);
	Py_CLEAR(transfer->value);
	Py_CLEAR(transfer->exception);
	type->tp_free(self);
	Py_DECREF(type);
}

KVI_PY_LOCKED_KEYWORDS(transfer_result)
KVI_PY_LOCKED_KEYWORDS(transfer_exception)
KVI_PY_LOCKED(transfer_stats)
KVI_PY_LOCKED(transfer_done)
KVI_PY_LOCKED(transfer_cancel)
KVI_PY_LOCKED(transfer_cancelled)
KVI_PY_LOCKED(transfer_detach)
KVI_PY_LOCKED(transfer_abandon)
KVI_PY_LOCKED(transfer_add_done_callback)

#define METHOD(name, function, doc)                                                                \
	{                                                                                          \
		name, (PyCFunction)(void (*)(void))function##_locked,                              \
			METH_VARARGS | METH_KEYWORDS, doc                                          \
	}

static PyMethodDef transfer_methods[] = {
	METHOD("result", transfer_result,
	       "result($self, timeout=None)\n--\n\n"
	       "The value: True, an ndarray, a number of bytes, a Connection or a Remote. Raises "
	       "the transfer's error, or\n"
	       "builtin TimeoutError when it is still in flight after timeout seconds. "
	       "Ctrl-C "
	       "does\n"
	       "not cancel it."),
	METHOD("exception", transfer_exception,
	       "exception($self, timeout=None)\n--\n\n"
	       "The exception object of a failure, or None for a success; waits like "
	       "result()."),
	{ "stats", transfer_stats_locked, METH_NOARGS,
	  "stats($self)\n--\n\n"
	  "TransferStats(nbytes, segments, submit_ns, transfer_ns, count, started_ns), whatever "
	  "its "
	  "outcome; None while in flight." },
	{ "done", transfer_done_locked, METH_NOARGS,
	  "done($self)\n--\n\nTrue once it has ended. Never waits." },
	{ "cancel", transfer_cancel_locked, METH_NOARGS,
	  "cancel($self)\n--\n\n"
	  "Ask it to end; False when it has ended already. It completes as soon as nobody touches "
	  "its memory." },
	{ "cancelled", transfer_cancelled_locked, METH_NOARGS,
	  "cancelled($self)\n--\n\nTrue once it has ended by cancel()." },
	{ "_abandon", transfer_abandon_locked, METH_NOARGS,
	  "_abandon($self)\n--\n\n"
	  "cancel(), and close a Connection that nobody got as its result." },
	{ "detach", transfer_detach_locked, METH_NOARGS,
	  "detach($self)\n--\n\n"
	  "Let go of a paged transfer: it goes on when this object is dropped, and reap() does not "
	  "return it.\n"
	  "Never waits. Its memory is in use until it has ended; close() of its pool waits for "
	  "that." },
	{ "add_done_callback", transfer_add_done_callback_locked, METH_O,
	  "add_done_callback($self, callback, /)\n--\n\n"
	  "Call callback(transfer) once it has ended, at once when it has: in the thread that "
	  "asks for\n"
	  "the outcome, or calls reap(), or in the event loop. Never in a thread of the engine." },
	{ "__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
	  "__class_getitem__($cls, item, /)\n--\n\nTransfer[result], for annotations." },
	{ NULL, NULL, 0, NULL },
};

static const char transfer_doc[] = "One operation in flight; it can be awaited.\n\n"
				   "The *_async methods of Engine make them, which keep their "
				   "buffer "
				   "alive, and are\n"
				   "cancelled when they are dropped in flight; and the paged calls "
				   "of "
				   "Connection, which the\n"
				   "engine keeps until they are reaped or asked for their result.";

static PyType_Slot transfer_slots[] = {
	{ Py_tp_doc, (void *)transfer_doc },   { Py_tp_dealloc, transfer_dealloc },
	{ Py_tp_traverse, transfer_traverse }, { Py_tp_clear, transfer_clear },
	{ Py_tp_repr, transfer_repr_locked },  { Py_am_await, transfer_await },
	{ Py_tp_members, transfer_members },   { Py_tp_getset, transfer_getset },
	{ Py_tp_methods, transfer_methods },   { 0, NULL },
};

PyType_Spec kvi_py_transfer_spec = {
	.name = "kvtrans_engine.Transfer",
	.basicsize = sizeof(struct kvi_py_transfer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = transfer_slots,
};
