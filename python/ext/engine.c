/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - the type Engine: closing, ids, last_error. It never moves data: methods.c lists the
 * methods and conn.c, kv.c, pool.c and others hold them; config.c has what the constructor takes.
 *
 * Who may use a handle, and when it is freed. The GIL guards every field here, or what stands in for it.
 *
 * - Engine. A call that gives up the GIL inside the library counts itself in `users` (kvi_py_enter,
 *   kvi_py_leave). close() marks the engine closed, so that nobody new enters, and stops it, which
 *   wakes whoever is inside; the last user out closes the handle.
 * - Connection. It is in the table `conns` until it is closed, and knows its engine so long. A call
 *   that gives up the GIL with its handle counts itself in `users`; the last user of a closed one
 *   closes the handle. A remote is alike.
 * - KV. Its handle is used with the GIL held only (starting a transfer never blocks), between
 *   finding it in the table `kvs` and giving up the GIL. So dereg_kv() takes it out of the table
 *   and closes it at once, without the GIL: nobody can reach it any more, and the library ends the
 *   transfers that are in flight on it. Its buffer is released after that.
 * - Transfer. It belongs to the call that started it, or to a Transfer object that all who wait
 *   have a reference to. A paged one is kept by the engine, too, until somebody has its outcome.
 * - Pool. It is in the set `pools` until it is closed. Its users start transfers and never wait, so
 *   closing waits for them. The library's pool belongs to an object of its own, which ndarrays of
 *   allocated memory have as their base: so it outlives them, also when the engine is closed.
 * - Export. In the table of its connection until it is withdrawn, or pool or connection is closed.
 *
 * In a forked child nothing but kvt_engine_close() is called, and the handles below an engine are
 * left alone: they are the parent's.
 */
#include "paged.h"

#include <stddef.h>
#include <structmember.h>
#include <time.h>
#include <unistd.h>

/* ---- Ctrl-C ---- */

/* This thread is in a call that closes or frees, which nothing may cut short. */
static _Thread_local bool is_closing;

/* What ends the call that this thread waits in, or NULL. */
static _Thread_local const bool *stop_waiting;

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

PyThreadState *kvi_py_begin_wait(const bool *stop)
{
	stop_waiting = stop;
	return PyEval_SaveThread();
}

void kvi_py_end_wait(PyThreadState *thread)
{
	PyEval_RestoreThread(thread);
	stop_waiting = NULL;
}

/* The library calls this on the thread that waits, which gave up the GIL to call the library. */
int kvi_py_check_interrupt(void *arg)
{
	(void)arg;
	if (is_closing)
		return 0;
	PyGILState_STATE gil = PyGILState_Ensure();
	const bool *stop = stop_waiting; /* a signal handler may wait for something else */
	int interrupted = PyErr_Occurred() != NULL || PyErr_CheckSignals() < 0;
	stop_waiting = stop;
	if (stop != NULL && *stop)
		interrupted = 1;
	PyGILState_Release(gil);
	return interrupted;
}

/* ---- users and ids ---- */

struct kvi_py_engine *kvi_py_ref_engine(struct kvi_py_engine *engine)
{
	PyObject *object = NULL;

	if (engine != NULL)
		(void)PyWeakref_GetRef(engine->self_ref, &object);
	return (struct kvi_py_engine *)object;
}

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

void kvi_py_await_users(const unsigned *users)
{
	static const struct timespec pause = { 0, 20 * 1000 };

	while (*users > 0) {
		PyThreadState *thread = kvi_py_begin_close();
		nanosleep(&pause, NULL);
		kvi_py_end_close(thread);
	}
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

/* Close every connection in the table. Closing gives up the GIL, so nothing is iterated over. */
static void close_conns(struct kvi_py_engine *self)
{
	PyObject *conns = PyDict_Values(self->conns);

	for (Py_ssize_t i = 0; conns != NULL && i < PyList_GET_SIZE(conns); i++)
		kvi_py_close_conn((struct kvi_py_conn *)PyList_GET_ITEM(conns, i));
	Py_XDECREF(conns);
	PyErr_Clear();
	PyDict_Clear(self->conns);
}

void kvi_py_close_engine(struct kvi_py_engine *self)
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
	kvi_py_stop_dispatch(self);
	PyDict_Clear(self->kvs);
	kvi_py_drop_pools(self);
	close_conns(self);
	kvi_py_leave(self);
}

static PyObject *open_engine(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_state *state = PyType_GetModuleState(type);
	struct kvi_py_engine *self = (struct kvi_py_engine *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->closed = true; /* nothing to close until it is open */
	self->owner = getpid();
	self->conns = PyDict_New();
	self->kvs = PyDict_New();
	self->pools = PySet_New(NULL);
	self->self_ref = PyWeakref_NewRef((PyObject *)self, NULL);
	if (kvi_py_open_dispatch(&self->dispatch) < 0 || self->conns == NULL || self->kvs == NULL ||
	    self->pools == NULL || self->self_ref == NULL ||
	    kvi_py_open_engine(self, args, kwargs) < 0)
		goto err_self;
	PyObject *added = PyObject_CallMethod(state->live_engines, "add", "O", self);
	if (added == NULL)
		goto err_self;
	Py_DECREF(added);
	return (PyObject *)self;

err_self:
	kvi_py_close_engine(self);
	Py_DECREF(self);
	return NULL;
}

static PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_section section;

	kvi_py_lock(&section, type);
	PyObject *self = open_engine(type, args, kwargs);
	kvi_py_unlock(&section);
	return self;
}

static void finalize(PyObject *self)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *type, *value, *traceback;

	if (engine->closed)
		return;
	PyErr_Fetch(&type, &value, &traceback);
	if (!kvi_py_is_forked(engine->owner) &&
	    PyErr_ResourceWarning(self, 1, "unclosed engine %R", self) < 0)
		PyErr_WriteUnraisable(self);
	kvi_py_close_engine(engine);
	PyErr_Restore(type, value, traceback);
}

static void engine_finalize(PyObject *self)
{
	struct kvi_py_section section;

	kvi_py_lock(&section, Py_TYPE(self));
	finalize(self);
	kvi_py_unlock(&section);
}

static int engine_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(engine->conns);
	Py_VISIT(engine->kvs);
	Py_VISIT(engine->pools);
	Py_VISIT(engine->last_error);
	return kvi_py_traverse_dispatch(&engine->dispatch, visit, arg);
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
	Py_CLEAR(engine->pools);
	Py_CLEAR(engine->last_error);
	Py_CLEAR(engine->self_ref);
	kvi_py_free_dispatch(&engine->dispatch);
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

KVI_PY_LOCKED_REPR(engine_repr)

static PyMemberDef engine_members[] = {
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(struct kvi_py_engine, weakrefs), READONLY,
	  NULL },
	{ NULL, 0, 0, 0, NULL },
};

KVI_PY_LOCKED_GETTER(engine_get_port)
KVI_PY_LOCKED_GETTER(engine_get_provider)
KVI_PY_LOCKED_GETTER(engine_get_last_error)
KVI_PY_LOCKED_GETTER(engine_get_closed)

static PyGetSetDef engine_getset[] = {
	{ "port", engine_get_port_locked, NULL, "The TCP port that connect() of a peer takes.",
	  NULL },
	{ "provider", engine_get_provider_locked, NULL, "The libfabric provider in use.", NULL },
	{ "last_error", engine_get_last_error_locked, NULL,
	  "The exception object of the last classic call that failed, or None.", NULL },
	{ "closed", engine_get_closed_locked, NULL, "True once close() was called.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static const char engine_doc[] =
	"Engine(interface, ncpus=None, nconn_per_cpu=None, listen_port=0, *, provider=None, "
	"eager_nbytes=None, heartbeat=None, lost_after=None, spin=None, cpus=None, "
	"lane_ports=None)\n--\n\n"
	"Moves KV cache to and from other processes over one or more network interfaces.\n\n"
	"interface: a name, an RDMA device, an IP address, or a sequence of them. ncpus: workers.\n"
	"nconn_per_cpu: lanes per worker and connection. listen_port: 0 takes a free one. "
	"eager_nbytes:\n"
	"bytes, 0 turns eager sends off. heartbeat, lost_after, spin: seconds. cpus: CPUs to pin\n"
	"workers to. lane_ports: what peers connect their lanes to, as \"40000-40100\", for a "
	"firewall.\nEvery method may be called from any thread; docs/python.md is the manual.";

static PyType_Slot engine_slots[] = {
	{ Py_tp_doc, (void *)engine_doc },
	{ Py_tp_new, engine_new },
	{ Py_tp_finalize, engine_finalize },
	{ Py_tp_dealloc, engine_dealloc },
	{ Py_tp_traverse, engine_traverse },
	{ Py_tp_clear, engine_clear },
	{ Py_tp_repr, engine_repr_locked },
	{ Py_tp_members, engine_members },
	{ Py_tp_getset, engine_getset },
	{ Py_tp_methods, kvi_py_engine_methods },
	{ 0, NULL },
};

PyType_Spec kvi_py_engine_spec = {
	.name = "kvtrans_engine.Engine",
	.basicsize = sizeof(struct kvi_py_engine),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = engine_slots,
};
