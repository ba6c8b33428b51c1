/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notes.c - notifications from when they are taken in until they are asked for, and the ends of
 * connections, which are told behind them: what a program keeps for a connection it may drop in
 * on_lost, and no notification comes after that. dispatch.c takes in.
 */
#include "ext.h"

/* What is kept at most until it is asked for; one more may begin below it. */
enum {
	NOTES_MAX = 4096,
	NOTES_LEN_MAX = 16 * 1024 * 1024,
};

static PyStructSequence_Field notification_fields[] = {
	{ "conn", "The Connection it came on." },
	{ "data", "What the peer sent: bytes." },
	{ "error", "None, or the exception object that says why the peer's transfer failed." },
	{ NULL, NULL },
};

PyStructSequence_Desc kvi_py_notification_desc = {
	.name = "kvtrans_engine.Notification",
	.doc = "What a peer sent: behind the data of a transfer, or by itself.",
	.fields = notification_fields,
	.n_in_sequence = 3,
};

/* ---- taken in ---- */

bool kvi_py_notes_are_full(const struct kvi_py_dispatch *dispatch)
{
	return PyList_GET_SIZE(dispatch->notes) >= NOTES_MAX ||
	       dispatch->notes_len >= NOTES_LEN_MAX;
}

int kvi_py_add_note(struct kvi_py_engine *engine, struct kvi_py_conn *conn,
		    const struct kvt_event *event)
{
	struct kvi_py_state *state = kvi_py_get_state((PyObject *)engine);
	struct kvt_error error = { .code = event->err };
	PyObject *failure = NULL;

	PyObject *note = PyStructSequence_New(state->notification_type);
	PyObject *data = PyBytes_FromStringAndSize(event->data, (Py_ssize_t)event->len);
	if (event->err == KVT_OK)
		failure = Py_NewRef(Py_None);
	else
		failure = kvi_py_make_error(state, &error, 0);
	if (note == NULL || data == NULL || failure == NULL) {
		Py_XDECREF(note);
		Py_XDECREF(data);
		Py_XDECREF(failure);
		return -1;
	}
	PyStructSequence_SetItem(note, 0, Py_NewRef((PyObject *)conn));
	PyStructSequence_SetItem(note, 1, data);
	PyStructSequence_SetItem(note, 2, failure);
	int rc = PyList_Append(engine->dispatch.notes, note);
	if (rc == 0) {
		conn->note_count++;
		engine->dispatch.notes_len += event->len;
	}
	Py_DECREF(note);
	return rc;
}

/* Call what on_lost() was given, once. */
static void tell_lost(struct kvi_py_conn *conn)
{
	PyObject *callbacks = conn->on_lost;
	PyObject *fresh = PyList_New(0);

	conn->ended = true;
	if (fresh == NULL) {
		PyErr_WriteUnraisable((PyObject *)conn);
		return;
	}
	conn->on_lost = fresh;
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(callbacks); i++)
		kvi_py_call_back(PyList_GET_ITEM(callbacks, i), (PyObject *)conn);
	Py_DECREF(callbacks);
}

void kvi_py_take_end(struct kvi_py_conn *conn)
{
	if (conn->note_count == 0)
		tell_lost(conn);
	else
		conn->end_is_due = true;
}

/* ---- handed out ---- */

static void on_handed_out(struct kvi_py_dispatch *dispatch, PyObject *note)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)PyStructSequence_GetItem(note, 0);

	dispatch->notes_len -= (size_t)PyBytes_GET_SIZE(PyStructSequence_GetItem(note, 1));
	if (--conn->note_count > 0 || !conn->end_is_due)
		return;
	/* The caller looks at them first: the next look tells. */
	if (PyList_Append(dispatch->ends, (PyObject *)conn) < 0)
		PyErr_WriteUnraisable((PyObject *)conn);
}

Py_ssize_t kvi_py_tell_ends(struct kvi_py_engine *engine)
{
	struct kvi_py_dispatch *dispatch = &engine->dispatch;
	Py_ssize_t total = 0;

	while (PyList_GET_SIZE(dispatch->ends) > 0) {
		PyObject *conn = Py_NewRef(PyList_GET_ITEM(dispatch->ends, 0));
		(void)PyList_SetSlice(dispatch->ends, 0, 1, NULL);
		kvi_py_sync_ready(dispatch);
		if (!((struct kvi_py_conn *)conn)->closed)
			tell_lost((struct kvi_py_conn *)conn);
		Py_DECREF(conn);
		total++;
	}
	return total;
}

PyObject *kvi_py_notifications(PyObject *self, PyObject *args)
{
	struct kvi_py_dispatch *dispatch = &((struct kvi_py_engine *)self)->dispatch;

	(void)args;
	if (kvi_py_enter_and_pull((struct kvi_py_engine *)self) < 0)
		return NULL;
	PyObject *fresh = PyList_New(0);
	if (fresh == NULL || PyList_GET_SIZE(dispatch->notes) == 0)
		return fresh;
	PyObject *notes = dispatch->notes;
	dispatch->notes = fresh;
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(notes); i++)
		on_handed_out(dispatch, PyList_GET_ITEM(notes, i));
	kvi_py_sync_ready(dispatch);
	return notes;
}

PyObject *kvi_py_next_notification(PyObject *self, PyObject *args)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *notes = engine->dispatch.notes;

	(void)args;
	if (PyList_GET_SIZE(notes) == 0 && !engine->closed && kvi_py_enter_and_pull(engine) < 0)
		return NULL;
	notes = engine->dispatch.notes;
	if (PyList_GET_SIZE(notes) == 0)
		Py_RETURN_NONE;
	PyObject *note = Py_NewRef(PyList_GET_ITEM(notes, 0));
	if (PyList_SetSlice(notes, 0, 1, NULL) < 0)
		Py_CLEAR(note);
	else
		on_handed_out(&engine->dispatch, note);
	kvi_py_sync_ready(&engine->dispatch);
	return note;
}
