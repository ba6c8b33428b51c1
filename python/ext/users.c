/* SPDX-License-Identifier: Apache-2.0 */
/*
 * users.c - who is inside the library with a handle, and what every call has in common: ids, failures,
 * Ctrl-C, callbacks. It knows no type but Engine, and calls nothing but errors.c and lock.c.
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
#include "ext.h"

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

struct kvi_py_state *kvi_py_get_state(PyObject *self)
{
	return PyType_GetModuleState(Py_TYPE(self));
}

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

/* ---- callbacks ---- */

void kvi_py_call_back(PyObject *function, PyObject *argument)
{
	struct kvi_py_section *section = kvi_py_pause();
	PyObject *result = argument == NULL ? PyObject_CallNoArgs(function)
					    : PyObject_CallOneArg(function, argument);
	kvi_py_resume(section);
	if (result == NULL)
		PyErr_WriteUnraisable(function);
	Py_XDECREF(result);
}
