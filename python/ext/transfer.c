/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - waiting for transfers and turning their outcome into values and exceptions: for the
 * classic calls at once, for the async calls through the type Transfer. It starts nothing.
 *
 * An outcome is made in two steps. Reading it (read_outcome) may run Python code, so another thread
 * may come in between and read it too; that is harmless, since reading changes nothing. Taking the
 * data and storing the value runs no Python code, so exactly one thread does it.
 */
#include "ext.h"

#include <stdio.h>
#include <time.h>

/* How long a wait sleeps before it looks for Ctrl-C. */
static const int64_t slice_ns = 100 * 1000 * 1000;

static int64_t get_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Wait for a transfer: 1 when it is done, 0 when the time passed first, -1 on Ctrl-C. */
static int wait_for(struct kvt_transfer *handle, int64_t timeout_ns)
{
	if (kvt_transfer_is_done(handle))
		return 1;
	int64_t start = get_now();
	for (;;) {
		int64_t left = timeout_ns == KVT_FOREVER ? KVT_FOREVER
							 : timeout_ns - (get_now() - start);
		if (left < 0)
			return 0;
		PyThreadState *thread = PyEval_SaveThread();
		enum kvt_err err = kvt_transfer_wait(handle, left < slice_ns ? left : slice_ns);
		PyEval_RestoreThread(thread);
		/* The library's own look for Ctrl-C (config.interrupted) may have raised. */
		if (PyErr_Occurred())
			return -1;
		if (err != KVT_E_AGAIN)
			return 1;
		if (PyErr_CheckSignals() < 0)
			return -1;
	}
}

/* ---- outcomes ---- */

struct outcome {
	struct kvt_error error; /* code is KVT_OK for a success */
	size_t len;
	struct kvi_py_description description; /* of a successful recv_kv */
};

static int read_outcome(struct kvt_transfer *handle, enum kvi_py_kind kind, struct outcome *outcome)
{
	struct kvt_result result = KVT_RESULT_INIT;

	outcome->error.code = kvt_transfer_get_result(handle, &result);
	if (outcome->error.code != KVT_OK) {
		outcome->error.text[0] = '\0';
		outcome->error.provider_errno = 0;
		return 0;
	}
	outcome->error.code = result.err;
	outcome->error.provider_errno = result.provider_errno;
	snprintf(outcome->error.text, sizeof(outcome->error.text), "%s", result.text);
	outcome->len = result.len;
	outcome->description.dtype = NULL;
	if (result.err != KVT_OK || kind != KVI_PY_RECV)
		return 0;
	int readable = kvi_py_read_description(result.meta, result.meta_len, result.len,
					       &outcome->description, outcome->error.text);
	if (readable == 0)
		outcome->error.code = KVT_E_UNSUPPORTED;
	return readable < 0 ? -1 : 0;
}

/* The value of a success. Uses up outcome->description and runs no Python code. */
static PyObject *take_value(struct kvt_transfer *handle, enum kvi_py_kind kind,
			    struct outcome *outcome)
{
	switch (kind) {
	case KVI_PY_SEND:
		return Py_NewRef(Py_True);
	case KVI_PY_RECV_INTO:
		return PyLong_FromSize_t(outcome->len);
	case KVI_PY_RECV:
		break;
	}
	return kvi_py_adopt_array(&outcome->description, kvt_transfer_take_data(handle));
}

/* Free a transfer and the buffer of its call; one in flight is cancelled and waited for first. */
static void end_call(struct kvt_transfer *handle, Py_buffer *view)
{
	if (handle != NULL && kvt_transfer_is_done(handle)) {
		kvt_transfer_free(handle);
	} else if (handle != NULL) {
		PyThreadState *thread = kvi_py_begin_close();
		kvt_transfer_free(handle);
		kvi_py_end_close(thread);
	}
	PyBuffer_Release(view);
}

int kvi_py_finish(struct kvi_py_call *call, PyObject **value)
{
	struct outcome outcome = { .error = call->error };
	int finished = -1;

	if (call->handle != NULL) {
		if (wait_for(call->handle, KVT_FOREVER) < 0 ||
		    read_outcome(call->handle, call->kind, &outcome) < 0)
			goto out_call;
	}
	if (outcome.error.code != KVT_OK) {
		finished = kvi_py_note_failure(call->engine, &outcome.error, outcome.len);
		goto out_call;
	}
	*value = take_value(call->handle, call->kind, &outcome);
	finished = *value == NULL ? -1 : 1;
out_call:
	end_call(call->handle, &call->view);
	return finished;
}

/* ---- the type Transfer ---- */

struct transfer {
	PyObject_HEAD struct kvt_transfer
		*handle;  /* freed with the object: whoever waits on it has a reference */
	PyObject *engine; /* keeps the engine open */
	Py_buffer view;	  /* released when the outcome is stored */
	enum kvi_py_kind kind;
	pid_t owner;
	PyObject *value; /* the outcome: one of these two */
	PyObject *exception;
};

PyObject *kvi_py_make_transfer(struct kvi_py_call *call)
{
	struct kvi_py_state *state = kvi_py_get_state((PyObject *)call->engine);
	struct transfer *self = NULL;

	if (call->handle == NULL)
		kvi_py_raise(state, &call->error, 0);
	else
		self = (struct transfer *)state->transfer_type->tp_alloc(state->transfer_type, 0);
	if (self == NULL) {
		end_call(call->handle, &call->view);
		return NULL;
	}
	self->handle = call->handle;
	self->engine = Py_NewRef((PyObject *)call->engine);
	self->view = call->view;
	self->kind = call->kind;
	self->owner = call->engine->owner;
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

static bool is_settled(const struct transfer *self)
{
	return self->value != NULL || self->exception != NULL;
}

/* Store the outcome of a transfer that is done. */
static int settle(struct transfer *self)
{
	struct outcome outcome = { .len = 0 };
	PyObject *exception = NULL;

	if (is_settled(self))
		return 0;
	if (read_outcome(self->handle, self->kind, &outcome) < 0)
		return -1;
	if (outcome.error.code != KVT_OK) {
		kvi_py_raise(kvi_py_get_state((PyObject *)self), &outcome.error, outcome.len);
		exception = catch_exception();
	}
	if (is_settled(self)) { /* by another thread, meanwhile */
		Py_XDECREF(outcome.description.dtype);
		Py_XDECREF(exception);
		return 0;
	}
	if (exception == NULL) {
		self->value = take_value(self->handle, self->kind, &outcome);
		if (self->value == NULL)
			exception = catch_exception();
	}
	self->exception = exception;
	PyBuffer_Release(&self->view);
	return 0;
}

static int check_fork(struct transfer *self)
{
	struct kvt_error error = { .code = KVT_E_FORKED };

	if (!kvi_py_is_forked(self->owner))
		return 0;
	kvi_py_raise(kvi_py_get_state((PyObject *)self), &error, 0);
	return -1;
}

/* Wait for the outcome as result() and exception() do. */
static int await_outcome(struct transfer *self, PyObject *args, PyObject *kwargs,
			 const char *format)
{
	static char *names[] = { "timeout", NULL };
	PyObject *timeout = NULL;
	int64_t timeout_ns;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", KVT_FOREVER, 0, &timeout_ns) < 0)
		return -1;
	if (is_settled(self))
		return 0;
	if (check_fork(self) < 0)
		return -1;
	int done = wait_for(self->handle, timeout_ns);
	if (done == 0)
		PyErr_SetString(PyExc_TimeoutError, "the transfer is still in flight");
	return done > 0 ? settle(self) : -1;
}

static PyObject *transfer_result(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct transfer *transfer = (struct transfer *)self;

	if (await_outcome(transfer, args, kwargs, "|O:result") < 0)
		return NULL;
	if (transfer->value != NULL)
		return Py_NewRef(transfer->value);
	PyErr_SetObject((PyObject *)Py_TYPE(transfer->exception), transfer->exception);
	return NULL;
}

static PyObject *transfer_exception(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct transfer *transfer = (struct transfer *)self;

	if (await_outcome(transfer, args, kwargs, "|O:exception") < 0)
		return NULL;
	return Py_NewRef(transfer->exception != NULL ? transfer->exception : Py_None);
}

static PyObject *transfer_done(PyObject *self, PyObject *args)
{
	struct transfer *transfer = (struct transfer *)self;

	(void)args;
	if (is_settled(transfer))
		Py_RETURN_TRUE;
	return check_fork(transfer) < 0 ? NULL
					: PyBool_FromLong(kvt_transfer_is_done(transfer->handle));
}

static PyObject *transfer_cancel(PyObject *self, PyObject *args)
{
	struct transfer *transfer = (struct transfer *)self;

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

static PyObject *transfer_cancelled(PyObject *self, PyObject *args)
{
	struct transfer *transfer = (struct transfer *)self;
	struct kvt_result result = KVT_RESULT_INIT;

	(void)args;
	if (check_fork(transfer) < 0)
		return NULL;
	return PyBool_FromLong(kvt_transfer_get_result(transfer->handle, &result) == KVT_OK &&
			       result.err == KVT_E_CANCELLED);
}

static PyObject *transfer_repr(PyObject *self)
{
	static const char *const calls[] = { "send_kv", "recv_kv", "recv_kv_into" };
	struct transfer *transfer = (struct transfer *)self;
	struct kvt_result result = KVT_RESULT_INIT;
	const char *state = "in flight";

	if (kvi_py_is_forked(transfer->owner))
		state = "of the parent process";
	else if (kvt_transfer_get_result(transfer->handle, &result) == KVT_OK)
		state = result.err == KVT_OK ? "done" : kvt_err_get_name(result.err);
	return PyUnicode_FromFormat("<kvtrans_engine.Transfer: %s, %s>", calls[transfer->kind],
				    state);
}

static int transfer_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct transfer *transfer = (struct transfer *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(transfer->engine);
	Py_VISIT(transfer->view.obj);
	Py_VISIT(transfer->value);
	Py_VISIT(transfer->exception);
	return 0;
}

/* The buffer and the outcome stay: a method that runs in a finalizer may still need them. */
static int transfer_clear(PyObject *self)
{
	Py_CLEAR(((struct transfer *)self)->engine);
	return 0;
}

static void transfer_dealloc(PyObject *self)
{
	struct transfer *transfer = (struct transfer *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	end_call(kvi_py_is_forked(transfer->owner) ? NULL : transfer->handle, &transfer->view);
	Py_CLEAR(transfer->engine);
	Py_CLEAR(transfer->value);
	Py_CLEAR(transfer->exception);
	type->tp_free(self);
	Py_DECREF(type);
}

#define METHOD(name, function, doc)                                                                \
	{                                                                                          \
		name, (PyCFunction)(void (*)(void))function, METH_VARARGS | METH_KEYWORDS, doc     \
	}

static PyMethodDef transfer_methods[] = {
	METHOD("result", transfer_result,
	       "result($self, timeout=None)\n--\n\n"
	       "The value: True, an ndarray, or a number of bytes. Raises the transfer's error, "
	       "or\n"
	       "builtin TimeoutError when it is still in flight after timeout seconds. Ctrl-C "
	       "does\n"
	       "not cancel it."),
	METHOD("exception", transfer_exception,
	       "exception($self, timeout=None)\n--\n\n"
	       "The exception object of a failure, or None for a success; waits like result()."),
	{ "done", transfer_done, METH_NOARGS,
	  "done($self)\n--\n\nTrue once it has ended. Never waits." },
	{ "cancel", transfer_cancel, METH_NOARGS,
	  "cancel($self)\n--\n\n"
	  "Ask it to end; False when it has ended already. It completes within about 1 s." },
	{ "cancelled", transfer_cancelled, METH_NOARGS,
	  "cancelled($self)\n--\n\nTrue once it has ended by cancel()." },
	{ "__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
	  "__class_getitem__($cls, item, /)\n--\n\nTransfer[result], for annotations." },
	{ NULL, NULL, 0, NULL },
};

static const char transfer_doc[] = "One operation in flight, made by the *_async methods of "
				   "Engine.\n\n"
				   "It keeps its buffer and its engine alive. Dropping one in "
				   "flight cancels it.";

static PyType_Slot transfer_slots[] = {
	{ Py_tp_doc, (void *)transfer_doc },
	{ Py_tp_dealloc, transfer_dealloc },
	{ Py_tp_traverse, transfer_traverse },
	{ Py_tp_clear, transfer_clear },
	{ Py_tp_repr, transfer_repr },
	{ Py_tp_methods, transfer_methods },
	{ 0, NULL },
};

PyType_Spec kvi_py_transfer_spec = {
	.name = "kvtrans_engine.Transfer",
	.basicsize = sizeof(struct transfer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = transfer_slots,
};
