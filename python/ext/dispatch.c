/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch.c - what an engine tells without being asked: paged transfers that have ended, and
 * events, which notes.c keeps. All of it is taken from the library in one place, kvi_py_take_in(), by
 * whichever thread looks first (reap, notifications, wait, an event loop), and kept until it is asked
 * for, so that none of them takes what another one wants. Threads of the engine never run this code.
 *
 * It gives up the GIL only where it runs Python code, and looks things up in the tables without
 * doing so. So two things can be reported before the call that they belong to has the GIL again, and are
 * kept for it: a transfer that is being started (early_done), and an event of a connection that is being
 * opened (early_events).
 *
 * Notifications are taken while few of them wait to be asked for, and so are peers; neither holds up the other.
 * Further ones stay in the library, which holds back who notifies, forgets a peer that went and left nothing, and
 * refuses too many.
 */
#include "ext.h"

enum { REAP_MAX = 64, ARRIVALS_MAX = 256 };

static const char event_name[] = "kvt_event";

/* ---- life ---- */

int kvi_py_open_dispatch(struct kvi_py_dispatch *dispatch)
{
	dispatch->poll_fd = -1;
	dispatch->ready_fd = -1;
	dispatch->in_flight = PyDict_New();
	dispatch->unowned = PyDict_New();
	dispatch->finished = PyDict_New();
	dispatch->early_done = PySet_New(NULL);
	dispatch->conns = PyDict_New();
	dispatch->early_events = PyList_New(0);
	dispatch->notes = PyList_New(0);
	dispatch->arrivals = PyList_New(0);
	dispatch->ends = PyList_New(0);
	dispatch->listeners = PyList_New(0);
	bool complete = dispatch->in_flight != NULL && dispatch->unowned != NULL &&
			dispatch->finished != NULL && dispatch->early_done != NULL &&
			dispatch->conns != NULL && dispatch->early_events != NULL &&
			dispatch->notes != NULL && dispatch->arrivals != NULL &&
			dispatch->ends != NULL && dispatch->listeners != NULL;
	return complete ? 0 : -1;
}

int kvi_py_traverse_dispatch(struct kvi_py_dispatch *dispatch, visitproc visit, void *arg)
{
	Py_VISIT(dispatch->in_flight);
	Py_VISIT(dispatch->finished);
	Py_VISIT(dispatch->conns);
	Py_VISIT(dispatch->notes);
	Py_VISIT(dispatch->arrivals);
	Py_VISIT(dispatch->ends);
	Py_VISIT(dispatch->listeners);
	return 0;
}

void kvi_py_free_dispatch(struct kvi_py_dispatch *dispatch)
{
	Py_CLEAR(dispatch->in_flight);
	Py_CLEAR(dispatch->unowned);
	Py_CLEAR(dispatch->finished);
	Py_CLEAR(dispatch->early_done);
	Py_CLEAR(dispatch->conns);
	Py_CLEAR(dispatch->early_events);
	Py_CLEAR(dispatch->notes);
	Py_CLEAR(dispatch->arrivals);
	Py_CLEAR(dispatch->ends);
	Py_CLEAR(dispatch->listeners);
}

/* ---- transfers ---- */

/* Take key out of a dict: its value, or NULL without an exception. */
static PyObject *pop(PyObject *dict, PyObject *key)
{
	PyObject *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));

	if (value != NULL)
		(void)PyDict_DelItem(dict, key);
	return value;
}

/* The Transfer of a handle, which the tables have no longer then; or NULL. */
static struct kvi_py_transfer *find_transfer(struct kvi_py_dispatch *dispatch, PyObject *key)
{
	PyObject *transfer = pop(dispatch->in_flight, key);
	if (transfer != NULL)
		return (struct kvi_py_transfer *)transfer;
	PyObject *reference = pop(dispatch->unowned, key);
	if (reference == NULL)
		return NULL;
	(void)PyWeakref_GetRef(reference, &transfer);
	Py_DECREF(reference);
	return (struct kvi_py_transfer *)transfer;
}

/* A transfer has ended: settle it, and keep it for reap() when nobody has its outcome. */
static int finish(struct kvi_py_engine *engine, struct kvi_py_transfer *transfer)
{
	if (kvi_py_settle(transfer) < 0)
		return -1;
	if (transfer->callbacks != NULL || transfer->is_unowned)
		transfer->is_taken = true;
	if (!transfer->is_taken) {
		PyObject *key = PyLong_FromVoidPtr(transfer->handle);
		int rc = key == NULL ? -1
				     : PyDict_SetItem(engine->dispatch.finished, key,
						      (PyObject *)transfer);
		Py_XDECREF(key);
		if (rc < 0)
			return -1;
	}
	kvi_py_run_callbacks(transfer);
	return 0;
}

/* The Transfer of a handle that the library has given back: a new reference, or NULL when it is
 * taken already, or is still being started. Runs no Python code. */
static struct kvi_py_transfer *take_handle(struct kvi_py_dispatch *dispatch,
					   struct kvt_transfer *handle)
{
	PyObject *key = PyLong_FromVoidPtr(handle);
	if (key == NULL)
		return NULL;
	struct kvi_py_transfer *transfer = find_transfer(dispatch, key);
	if (transfer == NULL && !PyErr_Occurred() && dispatch->starting > 0)
		(void)PySet_Add(dispatch->early_done, key);
	Py_DECREF(key);
	return transfer;
}

void kvi_py_begin_start(struct kvi_py_engine *engine)
{
	engine->dispatch.starting++;
}

void kvi_py_end_start(struct kvi_py_engine *engine)
{
	if (--engine->dispatch.starting == 0)
		(void)PySet_Clear(engine->dispatch.early_done);
}

/* Put a transfer in the table that is right for it. */
static int put_transfer(struct kvi_py_dispatch *dispatch, PyObject *key,
			struct kvi_py_transfer *transfer)
{
	if (!transfer->is_unowned)
		return PyDict_SetItem(dispatch->in_flight, key, (PyObject *)transfer);
	PyObject *reference = PyWeakref_NewRef((PyObject *)transfer, NULL);
	int rc = reference == NULL ? -1 : PyDict_SetItem(dispatch->unowned, key, reference);
	Py_XDECREF(reference);
	return rc;
}

int kvi_py_track(struct kvi_py_engine *engine, struct kvi_py_transfer *transfer)
{
	int rc = -1;

	PyObject *key = PyLong_FromVoidPtr(transfer->handle);
	if (key == NULL)
		return -1;
	int was_done = PySet_Discard(engine->dispatch.early_done, key);
	/* The handle of a transfer that was reaped and freed may have come back. */
	if (was_done > 0 && kvt_transfer_is_done(transfer->handle))
		rc = finish(engine, transfer);
	else if (was_done >= 0)
		rc = put_transfer(&engine->dispatch, key, transfer);
	kvi_py_sync_ready(&engine->dispatch);
	Py_DECREF(key);
	return rc;
}

void kvi_py_untrack(struct kvi_py_engine *engine, struct kvi_py_transfer *transfer)
{
	struct kvi_py_dispatch *dispatch = &engine->dispatch;
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	PyObject *key = PyLong_FromVoidPtr(transfer->handle);
	if (key != NULL && dispatch->in_flight != NULL) {
		PyObject *dicts[] = { dispatch->in_flight, dispatch->finished, dispatch->unowned };
		for (size_t i = 0; i < sizeof(dicts) / sizeof(dicts[0]); i++)
			Py_XDECREF(pop(dicts[i], key));
		kvi_py_sync_ready(dispatch);
	}
	Py_XDECREF(key);
	PyErr_Restore(type, value, traceback);
}

/* ---- connections and events ---- */

void kvi_py_begin_open(struct kvi_py_engine *engine)
{
	engine->dispatch.opening++;
}

void kvi_py_end_open(struct kvi_py_engine *engine)
{
	if (--engine->dispatch.opening == 0)
		(void)PyList_SetSlice(engine->dispatch.early_events, 0, PY_SSIZE_T_MAX, NULL);
}

static void free_early_event(PyObject *capsule)
{
	kvt_event_free(PyCapsule_GetPointer(capsule, event_name));
}

/* Hand an event to its connection, which is in the table. Frees the event. */
static int deliver(struct kvi_py_engine *engine, struct kvi_py_conn *conn, struct kvt_event *event)
{
	int rc = 0;

	Py_INCREF(conn);
	if (!conn->closed && event->kind == KVT_EVENT_CONN_ENDED)
		kvi_py_take_end(conn);
	else if (!conn->closed)
		rc = kvi_py_add_note(engine, conn, event);
	kvt_event_free(event);
	Py_DECREF(conn);
	return rc;
}

/* A peer has come: it is ours now. */
static int take_arrival(struct kvi_py_engine *engine, struct kvt_event *event)
{
	struct kvt_conn *handle = event->conn;

	kvt_event_free(event);
	struct kvi_py_conn *conn = kvi_py_add_conn(engine, handle);
	if (conn == NULL)
		return -1;
	int rc = PyList_Append(engine->dispatch.arrivals, (PyObject *)conn);
	if (rc < 0)
		kvi_py_close_conn(conn);
	Py_DECREF(conn);
	return rc;
}

static int take_event(struct kvi_py_engine *engine, struct kvt_event *event)
{
	struct kvi_py_dispatch *dispatch = &engine->dispatch;

	if (event->kind == KVT_EVENT_CONN_ACCEPTED)
		return take_arrival(engine, event);

	PyObject *key = PyLong_FromVoidPtr(event->conn);
	PyObject *conn = key == NULL ? NULL : PyDict_GetItemWithError(dispatch->conns, key);
	Py_XDECREF(key);
	if (conn != NULL)
		return deliver(engine, (struct kvi_py_conn *)conn, event);
	PyObject *capsule = PyErr_Occurred() || dispatch->opening == 0
				    ? NULL
				    : PyCapsule_New(event, event_name, free_early_event);
	if (capsule == NULL) {
		kvt_event_free(event);
		return PyErr_Occurred() ? -1 : 0;
	}
	int rc = PyList_Append(dispatch->early_events, capsule);
	Py_DECREF(capsule);
	return rc;
}

int kvi_py_add_handle(struct kvi_py_engine *engine, struct kvi_py_conn *conn)
{
	struct kvi_py_dispatch *dispatch = &engine->dispatch;
	PyObject *early_events = dispatch->early_events;

	PyObject *key = PyLong_FromVoidPtr(conn->handle);
	int rc = key == NULL ? -1 : PyDict_SetItem(dispatch->conns, key, (PyObject *)conn);
	Py_XDECREF(key);
	for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(early_events);) {
		PyObject *capsule = PyList_GET_ITEM(early_events, i);
		struct kvt_event *event = PyCapsule_GetPointer(capsule, event_name);
		if (event->conn != conn->handle) {
			i++;
			continue;
		}
		PyCapsule_SetDestructor(capsule, NULL);
		rc = PyList_SetSlice(early_events, i, i + 1, NULL);
		rc = deliver(engine, conn, event) < 0 ? -1 : rc;
	}
	kvi_py_sync_ready(dispatch);
	return rc;
}

/* Another connection may have the same handle by now. */
void kvi_py_remove_handle(struct kvi_py_engine *engine, struct kvi_py_conn *conn,
			  struct kvt_conn *handle)
{
	PyObject *conns = engine->dispatch.conns;

	PyObject *key = PyLong_FromVoidPtr(handle);
	if (key != NULL && PyDict_GetItemWithError(conns, key) == (PyObject *)conn)
		(void)PyDict_DelItem(conns, key);
	Py_XDECREF(key);
	PyErr_Clear();
}

/* ---- taking in ---- */

/*
 * Take in transfers: how many, or -1. Every handle is turned into its object before any Python code
 * runs: then another thread may let go of one of them, and its handle may come back as another's.
 */
static Py_ssize_t take_transfers(struct kvi_py_engine *engine)
{
	struct kvt_transfer *handles[REAP_MAX];
	struct kvi_py_transfer *transfers[REAP_MAX];
	Py_ssize_t total = 0;
	size_t count;
	int rc = 0;

	do {
		count = kvt_engine_reap(engine->handle, handles, REAP_MAX);
		for (size_t i = 0; i < count; i++)
			transfers[i] = take_handle(&engine->dispatch, handles[i]);
		rc = PyErr_Occurred() ? -1 : 0;
		for (size_t i = 0; i < count; i++) {
			if (rc == 0 && transfers[i] != NULL)
				rc = finish(engine, transfers[i]);
			Py_XDECREF(transfers[i]);
		}
		total += (Py_ssize_t)count;
	} while (count == REAP_MAX && rc == 0);
	return rc < 0 ? -1 : total;
}

/* The kinds of events of which there is room for more. */
static unsigned get_wanted(const struct kvi_py_dispatch *dispatch)
{
	unsigned kinds = KVT_EVENTS_ALL;

	if (kvi_py_notes_are_full(dispatch))
		kinds &= ~(unsigned)KVT_EVENTS_NOTIFICATION;
	if (PyList_GET_SIZE(dispatch->arrivals) >= ARRIVALS_MAX)
		kinds &= ~(unsigned)KVT_EVENTS_CONN_ACCEPTED;
	return kinds;
}

static Py_ssize_t take_events(struct kvi_py_engine *engine)
{
	struct kvt_event *event;
	Py_ssize_t total = 0;

	while (kvt_engine_get_event_of(engine->handle, get_wanted(&engine->dispatch), &event) ==
	       KVT_OK) {
		total++;
		if (take_event(engine, event) < 0)
			return -1;
	}
	return total;
}

Py_ssize_t kvi_py_take_in(struct kvi_py_engine *engine)
{
	Py_ssize_t end_count = kvi_py_tell_ends(engine);
	Py_ssize_t transfer_count = take_transfers(engine);
	Py_ssize_t event_count = transfer_count < 0 ? -1 : take_events(engine);

	if (transfer_count != 0 || event_count != 0)
		kvi_py_sync_ready(&engine->dispatch);
	if (event_count > 0)
		kvi_py_tell_listeners(engine);
	return event_count < 0 ? -1 : end_count + transfer_count + event_count;
}

Py_ssize_t kvi_py_enter_and_pull(struct kvi_py_engine *engine)
{
	if (kvi_py_enter(engine) < 0)
		return -1;
	Py_ssize_t total = kvi_py_take_in(engine);
	kvi_py_leave(engine);
	return total;
}

PyObject *kvi_py_reap(PyObject *self, PyObject *args)
{
	struct kvi_py_dispatch *dispatch = &((struct kvi_py_engine *)self)->dispatch;

	(void)args;
	if (kvi_py_enter_and_pull((struct kvi_py_engine *)self) < 0)
		return NULL;
	if (PyDict_GET_SIZE(dispatch->finished) == 0)
		return PyList_New(0);
	PyObject *transfers = PyDict_Values(dispatch->finished);
	if (transfers == NULL)
		return NULL;
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(transfers); i++)
		((struct kvi_py_transfer *)PyList_GET_ITEM(transfers, i))->is_taken = true;
	PyDict_Clear(dispatch->finished);
	kvi_py_sync_ready(dispatch);
	return transfers;
}

PyObject *kvi_py_pull(PyObject *self, PyObject *args)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)args;
	if (kvi_py_enter_and_pull(engine) < 0)
		return NULL;
	return PyBool_FromLong(get_wanted(&engine->dispatch) != KVT_EVENTS_ALL);
}

/* ---- the end ---- */

static void stop_transfer(struct kvi_py_engine *engine, PyObject *key)
{
	struct kvi_py_transfer *transfer = find_transfer(&engine->dispatch, key);

	if (transfer == NULL)
		return;
	if (!kvi_py_is_forked(engine->owner) && kvt_transfer_is_done(transfer->handle)) {
		if (kvi_py_settle(transfer) < 0)
			PyErr_WriteUnraisable((PyObject *)transfer);
		kvi_py_run_callbacks(transfer);
	}
	Py_DECREF(transfer);
}

void kvi_py_stop_dispatch(struct kvi_py_engine *engine)
{
	struct kvi_py_dispatch *dispatch = &engine->dispatch;
	PyObject *type, *value, *traceback;

	if (dispatch->in_flight == NULL || dispatch->listeners == NULL)
		return; /* it was never open */
	PyErr_Fetch(&type, &value, &traceback);
	PyObject *keys = PyDict_Keys(dispatch->in_flight);
	PyObject *unowned = PyDict_Keys(dispatch->unowned);
	if (keys != NULL && unowned != NULL)
		(void)PyList_SetSlice(keys, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, unowned);
	for (Py_ssize_t i = 0; keys != NULL && i < PyList_GET_SIZE(keys); i++)
		stop_transfer(engine, PyList_GET_ITEM(keys, i));
	Py_XDECREF(keys);
	Py_XDECREF(unowned);
	PyErr_Clear();
	PyDict_Clear(dispatch->in_flight);
	PyDict_Clear(dispatch->finished);
	kvi_py_close_fds(dispatch);
	kvi_py_tell_listeners(engine);
	PyList_SetSlice(dispatch->listeners, 0, PY_SSIZE_T_MAX, NULL);
	PyErr_Restore(type, value, traceback);
}
