/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext.h - what the files of the extension share: module state, object structs, and the functions of
 * one file that another calls. It never includes NumPy's headers: those are for arrays.c alone.
 *
 * Everything here is touched with the GIL held, or with what stands in for it (lock.h). Functions that
 * return int give 0, or -1 with a Python exception set, unless they say otherwise.
 */
#ifndef KVI_PYTHON_EXT_H
#define KVI_PYTHON_EXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <kvtrans.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lock.h"

/* ---- module.c ---- */

/* The exception classes; errors.c says which code gets which. */
enum kvi_py_class {
	KVI_PY_ERROR,
	KVI_PY_PEER_LOST,
	KVI_PY_UNREACHABLE,
	KVI_PY_AUTH_ERROR,
	KVI_PY_PROTOCOL_ERROR,
	KVI_PY_TRANSFER_TIMEOUT,
	KVI_PY_CANCELLED,
	KVI_PY_TOO_LARGE,
	KVI_PY_ACCESS_ERROR,
	KVI_PY_WITHDRAWN,
	KVI_PY_CORRUPT,
	KVI_PY_CLOSED,
	KVI_PY_FORKED,
	KVI_PY_CLASS_COUNT,
};

struct kvi_py_state {
	PyTypeObject *engine_type;
	PyTypeObject *conn_type;
	PyTypeObject *kv_type;
	PyTypeObject *transfer_type;
	PyTypeObject *backing_type;
	PyTypeObject *pool_type;
	PyTypeObject *export_type;
	PyTypeObject *remote_type;
	PyTypeObject *stats_type; /* struct sequences */
	PyTypeObject *notification_type;
	PyObject *classes[KVI_PY_CLASS_COUNT];
	PyObject *live_engines; /* a weakref.WeakSet; closed by atexit */
	long long last_id;	/* of connections and KVs of all engines */
};

/* ---- errors.c ---- */

int kvi_py_add_errors(PyObject *module, struct kvi_py_state *state);

/* A new exception object for error; size is kept when the code is KVT_E_TOO_LARGE. */
PyObject *kvi_py_make_error(struct kvi_py_state *state, const struct kvt_error *error, size_t size);

/* Raise error: ValueError for INVALID, MemoryError for NO_MEMORY, else Error or a subclass. */
void kvi_py_raise(struct kvi_py_state *state, const struct kvt_error *error, size_t size);

/* True when even a classic call raises this code: wrong use, no memory, a forked child. */
bool kvi_py_is_raised(enum kvt_err err);

/* ---- convert.c ---- */

/* Parse an int from min to max; ValueError names the range and the parameter. */
int kvi_py_parse_int(PyObject *value, const char *name, long long min, long long max,
		     long long *number);

/* Parse seconds to what the library takes: NULL and None give 0, which is the default there, 0 gives
 * KVT_NOWAIT, inf KVT_FOREVER. ValueError if negative or NaN. */
int kvi_py_parse_seconds(PyObject *value, const char *name, int64_t *ns);

/* The time now, for kvi_py_get_slice(). */
int64_t kvi_py_get_now(void);

/* How long to wait before looking for Ctrl-C, in a call that began then and has no limit by default.
 * KVT_NOWAIT: its time has passed. */
int64_t kvi_py_get_slice(int64_t timeout_ns, int64_t began_ns);

/* ---- dispatch.c ---- */

/* What an engine has told and nobody has taken yet, and who is to be told; see dispatch.c. */
struct kvi_py_dispatch {
	PyObject *in_flight;  /* dict: handle to Transfer, started and not reaped */
	PyObject *unowned;    /* dict: handle to a weak reference to a Transfer that is not kept */
	PyObject *finished;   /* dict: handle to Transfer, in the order of completion */
	PyObject *early_done; /* set: handles reaped before their start call was back */
	PyObject *conns;      /* dict: handle to Connection, until its close has returned */
	PyObject *early_events; /* list: events of connections that are just being opened */
	PyObject *notes;	/* list of Notification */
	size_t notes_len;	/* bytes of theirs */
	PyObject *arrivals;	/* list of Connection: peers that have come by themselves */
	PyObject *ends; /* list of Connection: ended, and all their notifications were asked for */
	PyObject *listeners; /* list: called when there are new notes, or the engine is closed */
	unsigned starting;   /* calls that start a transfer without the GIL */
	unsigned opening;    /* calls that open or accept a connection */
	int poll_fd;	     /* what fileno() gives, or -1 */
	int ready_fd; /* readable while something is in finished, notes, arrivals or ends, or -1 */
	bool is_ready;
};

/* ---- engine.c ---- */

struct kvi_py_engine {
	PyObject_HEAD struct kvt_engine
		*handle; /* NULL once the last user of a closed engine has left */
	unsigned users;	 /* calls inside the library with this handle; see users.c */
	bool closed;
	pid_t owner;	      /* the process that opened it */
	PyObject *conns;      /* dict: id to struct kvi_py_conn */
	PyObject *kvs;	      /* dict: id to struct kvi_py_kv */
	PyObject *pools;      /* set of struct kvi_py_pool: those that are open */
	PyObject *offers;     /* dict: name -> struct kvi_py_export */
	PyObject *last_error; /* exception object or NULL */
	PyObject *weakrefs;
	PyObject *self_ref; /* a weak reference to itself: kvi_py_ref_engine */
	bool accept_events; /* peers that connect are told of */
	struct kvi_py_dispatch dispatch;
};

extern PyType_Spec kvi_py_engine_spec;

/* ---- users.c ---- */

/* The state of the module whose type self is of. */
struct kvi_py_state *kvi_py_get_state(PyObject *self);

/* A new reference to the engine that an object of its knows and does not keep. NULL when the object is
 * closed, or about to be: the last reference has gone, and the engine's finalizer waits for the lock. */
struct kvi_py_engine *kvi_py_ref_engine(struct kvi_py_engine *engine);

/* Raise ValueError when the engine is closed, Forked when this is a forked child. */
int kvi_py_check_open(struct kvi_py_engine *engine);

/* Hold the handle over a call that gives up the GIL: check_open, then count a user, until leave. */
int kvi_py_enter(struct kvi_py_engine *engine);
void kvi_py_leave(struct kvi_py_engine *engine);

/* Find id in the engine's conns or kvs: a borrowed reference, good until the GIL is given up. */
PyObject *kvi_py_find(PyObject *table, PyObject *id, const char *noun);

/* Find id and take it out of the table: the reference is the caller's. */
PyObject *kvi_py_take(PyObject *table, PyObject *id, const char *noun);

/* Add object to the engine's conns or kvs under a new id, which is returned. */
PyObject *kvi_py_add(struct kvi_py_engine *engine, PyObject *table, PyObject *object);

/* Keep the failure of a classic call as last_error; -1 when it is one that is raised instead. */
int kvi_py_note_failure(struct kvi_py_engine *engine, const struct kvt_error *error, size_t size);

/* Give up the GIL around a call that closes or frees. It ends by itself: Ctrl-C is for later. */
PyThreadState *kvi_py_begin_close(void);
void kvi_py_end_close(PyThreadState *thread);

/* What the library calls while it waits; true when a signal handler has raised, or when what
 * kvi_py_begin_wait() was given has become true. */
int kvi_py_check_interrupt(void *arg);

/* Give up the GIL around a call that waits and is to end when *stop becomes true. */
PyThreadState *kvi_py_begin_wait(const bool *stop);
void kvi_py_end_wait(PyThreadState *thread);

/* Wait without the GIL until *users, who are in calls that do not wait, have left. */
void kvi_py_await_users(const unsigned *users);

/* True in a process that was forked after owner opened its engine. */
bool kvi_py_is_forked(pid_t owner);

/* Call a function that cannot be allowed to fail; its exception is reported and dropped. Other threads
 * may use the extension meanwhile. */
void kvi_py_call_back(PyObject *function, PyObject *argument);

/* ---- close.c ---- */

/* Close, as close() and the finalizer do; may be called again. */
void kvi_py_close_engine(struct kvi_py_engine *engine);

/* ---- config.c ---- */

/* Parse the arguments of Engine() and open the engine. */
int kvi_py_open_engine(struct kvi_py_engine *engine, PyObject *args, PyObject *kwargs);

/* ---- methods.c ---- */

extern PyMethodDef kvi_py_engine_methods[];

/* ---- conn.c ---- */

/* A connection: the type Connection, and what an id stands for. */
struct kvi_py_conn {
	PyObject_HEAD struct kvt_conn *handle; /* NULL once the last user of a closed one has left */
	struct kvi_py_engine *engine;	       /* borrowed; NULL once closed */
	unsigned users;			       /* calls inside the library with this handle */
	bool closed;
	bool ended;	 /* the engine has told, and on_lost was called */
	bool end_is_due; /* the engine has told, and notifications are to be asked for first */
	Py_ssize_t note_count; /* of those */
	pid_t owner;
	PyObject *id;
	PyObject *exports; /* dict: descriptor to struct kvi_py_export */
	PyObject *on_lost; /* list of callables */
	PyObject *weakrefs;
};

PyObject *kvi_py_connect(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_accept(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_open_connection(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_accept_connection(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_connection(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_connect_async(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_accepted(PyObject *self, PyObject *args);
PyObject *kvi_py_next_arrival(PyObject *self, PyObject *args);
PyObject *kvi_py_disconnect(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_status(PyObject *self, PyObject *args, PyObject *kwargs);

/*
 * A Connection without a handle, and then: give it one, which is used up also on failure, and its id. The second runs no
 * Python code where the engine has told of nothing yet that came on the handle.
 */
struct kvi_py_conn *kvi_py_make_conn(struct kvi_py_engine *engine);
int kvi_py_attach_conn(struct kvi_py_engine *engine, struct kvi_py_conn *conn,
		       struct kvt_conn *handle);
/* Both. */
struct kvi_py_conn *kvi_py_add_conn(struct kvi_py_engine *engine, struct kvt_conn *handle);

/* Close a connection; calls that are inside close it when they leave. May be called again. */
void kvi_py_close_conn(struct kvi_py_conn *conn);

/* Use a connection's handle without the GIL: 0 and *engine, a new reference; kvi_py_leave_conn ends
 * it. ValueError when it is closed. */
int kvi_py_enter_conn(struct kvi_py_conn *conn, struct kvi_py_engine **engine);
void kvi_py_leave_conn(struct kvi_py_conn *conn, struct kvi_py_engine *engine);

/* True when the handle may be used now, with the GIL held; else an exception is set. */
bool kvi_py_is_usable(struct kvi_py_conn *conn);

/* What the attribute lost is. */
PyObject *kvi_py_get_lost(struct kvi_py_conn *conn);

/* ---- connection.c ---- */

extern PyType_Spec kvi_py_conn_spec;

/* ---- stats.c ---- */

PyObject *kvi_py_reload_keys(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_stats(PyObject *self, PyObject *args, PyObject *kwargs);

/* Of one connection. */
PyObject *kvi_py_get_conn_stats(struct kvi_py_conn *conn);

/* ---- kv.c ---- */

struct kvi_py_kv {
	PyObject_HEAD struct kvt_kv *handle;
	Py_buffer view; /* the registered memory */
	pid_t owner;
};

extern PyType_Spec kvi_py_kv_spec;

PyObject *kvi_py_reg_kv(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_dereg_kv(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_send_kv(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_recv_kv(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_recv_kv_into(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_send_kv_async(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_recv_kv_async(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_recv_kv_into_async(PyObject *self, PyObject *args, PyObject *kwargs);

/* ---- description.c ---- */

enum {
	KVI_PY_DIMS_MAX = 64,
	KVI_PY_META_VERSION = 1,
	KVI_PY_META_HEADER_LEN = 4,
	KVI_PY_SIMPLE_LEN_MAX = 32, /* of the text of a dtype that has no fields */
};

/* dtype and shape as they travel with a message; the format is told in description.c. */
struct kvi_py_meta {
	size_t len;
	unsigned char bytes[KVT_META_LEN_MAX];
};

/* What a received message is to become. */
struct kvi_py_description {
	PyObject *dtype;
	int dim_count;
	Py_ssize_t dims[KVI_PY_DIMS_MAX];
};

/* True when a buffer format has an object pointer in it. */
bool kvi_py_has_objects(const char *format);

/* Put header, text and shape together. */
int kvi_py_put_description(struct kvi_py_meta *meta, const char *text, size_t text_len,
			   int dim_count, const Py_ssize_t *dims);

/* Describe a buffer that is no array: its numbers, or else its bytes. */
int kvi_py_describe_buffer(const Py_buffer *view, struct kvi_py_meta *meta);

/* True for what dtype.str gives: byte order, kind, size, and a unit for times: "<f4", "<M8[ns]". */
bool kvi_py_is_simple_dtype(const char *text, size_t len);

/* Read the dimensions; false unless they and the item make exactly len bytes. */
bool kvi_py_read_dims(const unsigned char *next, size_t item_len, size_t len,
		      struct kvi_py_description *description);

/* ---- tensor.c ---- */

/* True for what shares its memory by DLPack, as torch's tensors do. */
bool kvi_py_is_tensor(PyObject *object);

/* The memory of a tensor of the CPU as a buffer with strides, which PyBuffer_Release() gives back.
 * TypeError when it is on another device or, where that is wanted, not C-contiguous; ValueError when
 * its items are not of whole bytes. */
int kvi_py_get_tensor(PyObject *object, const char *name, bool contiguous, Py_buffer *view);

/* Whether object, if view is of a tensor, still has that memory: whoever exports a buffer cannot move it, but
 * nothing keeps a tensor from it. Asks only those that tell where they are. */
int kvi_py_check_tensor(PyObject *object, const Py_buffer *view);

/* ---- arrays.c ---- */

int kvi_py_import_numpy(void);

/* The NumPy version whose headers this was built with, as new text. */
PyObject *kvi_py_get_numpy_build(void);

/*
 * Get the memory of a C-contiguous object without a copy; name is its parameter. TypeError for what
 * is no buffer and no tensor, not C-contiguous, or holds Python objects; with writable, for read-only memory too.
 */
int kvi_py_get_view(PyObject *object, const char *name, bool writable, Py_buffer *view);

/* Describe object, whose memory view is. ValueError when the description is too long to travel. */
int kvi_py_describe(PyObject *object, const Py_buffer *view, struct kvi_py_meta *meta);

/* Read the description of a message of len bytes: 1, or 0 when it cannot be used; why tells it. */
int kvi_py_read_description(const void *meta, size_t meta_len, size_t len,
			    struct kvi_py_description *description, char why[KVT_TEXT_LEN]);

/* An ndarray that owns data (from malloc; freed here on failure). Uses up description->dtype and
 * runs no Python code. */
PyObject *kvi_py_adopt_array(struct kvi_py_description *description, void *data);

/* ---- outcome.c ---- */

/* What a transfer does: what its value is, and its name in repr(). */
enum kvi_py_kind {
	KVI_PY_SEND,	  /* its value is True */
	KVI_PY_RECV,	  /* an ndarray */
	KVI_PY_RECV_INTO, /* the message's length in bytes */
	KVI_PY_CONNECT,	  /* a Connection */
	KVI_PY_IMPORT,	  /* a Remote */
	KVI_PY_WRITE,	  /* this and the rest: bytes moved */
	KVI_PY_READ,
	KVI_PY_NOTIFY,
};

/* A transfer on its way from a start call to an outcome. */
struct kvi_py_call {
	struct kvi_py_engine *engine; /* borrowed */
	PyObject *remote; /* owned; of an import: the Remote that it gives its handle; else NULL */
	enum kvi_py_kind kind;
	struct kvt_transfer *handle; /* NULL: it did not start, error says why */
	Py_buffer view;		     /* the call's own buffer; obj is NULL when it has none */
	bool is_tracked;	     /* the engine will tell when it has ended */
	struct kvt_error error;
};

/* How a transfer ended. */
struct kvi_py_outcome {
	struct kvt_error error; /* code is KVT_OK for a success */
	size_t len;
	struct kvi_py_description description; /* of a successful recv_kv */
};

/* Wait for a transfer: 1 when it is done, 0 when the time passed first, -1 on Ctrl-C. */
int kvi_py_wait_for(struct kvt_transfer *handle, int64_t timeout_ns);

int kvi_py_read_outcome(struct kvt_transfer *handle, enum kvi_py_kind kind,
			struct kvi_py_outcome *outcome);

/* The value of a success. Uses up outcome->description and runs no Python code. */
PyObject *kvi_py_take_value(struct kvt_transfer *handle, enum kvi_py_kind kind,
			    struct kvi_py_outcome *outcome);

/* Free a transfer and the buffer of its call; one in flight is cancelled and waited for first. */
void kvi_py_end_call(struct kvt_transfer *handle, Py_buffer *view);

/* See a call through: wait, convert, free. 1: *value is its value; 0: failed, last_error is set. */
int kvi_py_finish(struct kvi_py_call *call, PyObject **value);

/* ---- transfer.c ---- */

/* The type Transfer. */
struct kvi_py_transfer {
	PyObject_HEAD struct kvt_transfer
		*handle;  /* freed with the object: whoever waits on it has a reference */
	PyObject *engine; /* keeps the engine open */
	PyObject *remote; /* of an import in flight */
	Py_buffer view;	  /* released when the outcome is stored */
	enum kvi_py_kind kind;
	bool is_taken;	   /* somebody has its outcome: reap() need not return it */
	bool is_unowned;   /* the engine does not keep it: it is the caller's */
	bool is_detached;  /* nobody keeps it, and it goes on without its object */
	bool is_given;	   /* somebody got its value: a Connection is closed by who has it */
	bool is_abandoned; /* who waited for it went: a connection that comes now is nobody's */
	bool is_given_up;  /* it had come, and was closed: that counts as cancelled */
	pid_t owner;
	PyObject *callbacks; /* list, or NULL */
	PyObject *value;     /* the outcome: one of these two */
	PyObject *exception;
	PyObject *weakrefs;
};

extern PyType_Spec kvi_py_transfer_spec;
extern PyStructSequence_Desc kvi_py_stats_desc;

/* Make a Transfer of a started call and hand call's handle and view over to it. */
PyObject *kvi_py_make_transfer(struct kvi_py_call *call);

/* Store the outcome of a transfer that is done. */
int kvi_py_settle(struct kvi_py_transfer *transfer);

/* Call what add_done_callback() was given, in this thread, once. */
void kvi_py_run_callbacks(struct kvi_py_transfer *transfer);

/* ---- dispatch.c ---- */

int kvi_py_open_dispatch(struct kvi_py_dispatch *dispatch);
int kvi_py_traverse_dispatch(struct kvi_py_dispatch *dispatch, visitproc visit, void *arg);
/* The engine has stopped: give every transfer its outcome, tell who listens, let go of all. */
void kvi_py_stop_dispatch(struct kvi_py_engine *engine);
void kvi_py_free_dispatch(struct kvi_py_dispatch *dispatch);

/* A transfer that the engine will reap is known from now on; one may be done already. */
int kvi_py_track(struct kvi_py_engine *engine, struct kvi_py_transfer *transfer);
/* Its outcome is taken, or it goes away: nothing of it is kept. */
void kvi_py_untrack(struct kvi_py_engine *engine, struct kvi_py_transfer *transfer);

/* Between these two the engine may tell of transfers that track() has not seen. */
void kvi_py_begin_start(struct kvi_py_engine *engine);
void kvi_py_end_start(struct kvi_py_engine *engine);

/* The same of connections; a connection is known after add, until remove. */
void kvi_py_begin_open(struct kvi_py_engine *engine);
void kvi_py_end_open(struct kvi_py_engine *engine);
int kvi_py_add_handle(struct kvi_py_engine *engine, struct kvi_py_conn *conn);
void kvi_py_remove_handle(struct kvi_py_engine *engine, struct kvi_py_conn *conn,
			  struct kvt_conn *handle);

/* Take in what has happened: the number of things, or -1. Between kvi_py_enter and kvi_py_leave. */
Py_ssize_t kvi_py_take_in(struct kvi_py_engine *engine);

/* The same, between the two. */
Py_ssize_t kvi_py_enter_and_pull(struct kvi_py_engine *engine);

PyObject *kvi_py_reap(PyObject *self, PyObject *args);
PyObject *kvi_py_pull(PyObject *self, PyObject *args);

/* ---- notes.c ---- */

extern PyStructSequence_Desc kvi_py_notification_desc;

/* Whether no more are taken in until some are asked for. */
bool kvi_py_notes_are_full(const struct kvi_py_dispatch *dispatch);
/* Keep a notification of conn. */
int kvi_py_add_note(struct kvi_py_engine *engine, struct kvi_py_conn *conn,
		    const struct kvt_event *event);
/* conn has ended: tell it, behind its notifications. Runs Python code. */
void kvi_py_take_end(struct kvi_py_conn *conn);
/* Tell the ends that waited for notifications: how many. Runs Python code. */
Py_ssize_t kvi_py_tell_ends(struct kvi_py_engine *engine);

PyObject *kvi_py_notifications(PyObject *self, PyObject *args);
PyObject *kvi_py_next_notification(PyObject *self, PyObject *args);

/* ---- watch.c ---- */

/* Make the descriptor of fileno() agree with what waits to be asked for. */
void kvi_py_sync_ready(struct kvi_py_dispatch *dispatch);
void kvi_py_close_fds(struct kvi_py_dispatch *dispatch);

/* Tell who listens that there are notifications, or that the engine is closed. */
void kvi_py_tell_listeners(struct kvi_py_engine *engine);

PyObject *kvi_py_wait(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_fileno(PyObject *self, PyObject *args);
PyObject *kvi_py_dup_fd(PyObject *self, PyObject *args);
PyObject *kvi_py_add_listener(PyObject *self, PyObject *listener);
PyObject *kvi_py_remove_listener(PyObject *self, PyObject *listener);

#endif
