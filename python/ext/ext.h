/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext.h - what the files of the extension share: module state, object structs, and the functions of
 * one file that another calls. It never includes NumPy's headers: those are for arrays.c alone.
 *
 * Everything here is touched with the GIL held. Functions that return int give 0, or -1 with a
 * Python exception set, unless they say otherwise.
 */
#ifndef KVI_PYTHON_EXT_H
#define KVI_PYTHON_EXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <kvtrans.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

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
	KVI_PY_CLOSED,
	KVI_PY_FORKED,
	KVI_PY_CLASS_COUNT,
};

struct kvi_py_state {
	PyTypeObject *engine_type;
	PyTypeObject *conn_type;
	PyTypeObject *kv_type;
	PyTypeObject *transfer_type;
	PyObject *classes[KVI_PY_CLASS_COUNT];
	PyObject *live_engines; /* a weakref.WeakSet; closed by atexit */
	long long last_id;	/* of connections and KVs of all engines */
};

/* The state of the module whose type self is of. */
struct kvi_py_state *kvi_py_get_state(PyObject *self);

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

/* Parse seconds to nanoseconds: NULL and None give none, 0 gives zero. ValueError if negative. */
int kvi_py_parse_seconds(PyObject *value, const char *name, int64_t none, int64_t zero,
			 int64_t *ns);

/* ---- engine.c ---- */

struct kvi_py_engine {
	PyObject_HEAD struct kvt_engine
		*handle; /* NULL once the last user of a closed engine has left */
	unsigned users;	 /* calls inside the library with this handle; see engine.c */
	bool closed;
	pid_t owner;	      /* the process that opened it */
	PyObject *conns;      /* dict: id to struct kvi_py_conn */
	PyObject *kvs;	      /* dict: id to struct kvi_py_kv */
	PyObject *last_error; /* exception object or NULL */
	PyObject *weakrefs;
};

extern PyType_Spec kvi_py_engine_spec;

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

/* What the library calls while it waits; true when a signal handler has raised. */
int kvi_py_check_interrupt(void *arg);

/* True in a process that was forked after owner opened its engine. */
bool kvi_py_is_forked(pid_t owner);

/* ---- config.c ---- */

/* Parse the arguments of Engine() and open the engine. */
int kvi_py_open_engine(struct kvi_py_engine *engine, PyObject *args, PyObject *kwargs);

/* ---- conn.c ---- */

struct kvi_py_conn {
	PyObject_HEAD struct kvt_conn *handle;
	pid_t owner;
};

extern PyType_Spec kvi_py_conn_spec;

PyObject *kvi_py_connect(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_accept(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_disconnect(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_status(PyObject *self, PyObject *args, PyObject *kwargs);

/* ---- stats.c ---- */

PyObject *kvi_py_stats(PyObject *self, PyObject *args, PyObject *kwargs);

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

/* ---- transfer.c ---- */

enum kvi_py_kind {
	KVI_PY_SEND,	  /* its value is True */
	KVI_PY_RECV,	  /* an ndarray */
	KVI_PY_RECV_INTO, /* the message's length in bytes */
};

/* A transfer on its way from a start call to an outcome. */
struct kvi_py_call {
	struct kvi_py_engine *engine; /* borrowed */
	enum kvi_py_kind kind;
	struct kvt_transfer *handle; /* NULL: it did not start, error says why */
	Py_buffer view;		     /* the call's own buffer; obj is NULL when it has none */
	struct kvt_error error;
};

extern PyType_Spec kvi_py_transfer_spec;

/* Make a Transfer of a started call and hand call's handle and view over to it. */
PyObject *kvi_py_make_transfer(struct kvi_py_call *call);

/* See a call through: wait, convert, free. 1: *value is its value; 0: failed, last_error is set. */
int kvi_py_finish(struct kvi_py_call *call, PyObject **value);

/* ---- arrays.c ---- */

int kvi_py_import_numpy(void);

/* The NumPy version whose headers this was built with, as new text. */
PyObject *kvi_py_get_numpy_build(void);

/* dtype and shape as they travel with a message; the format is told in arrays.c. */
struct kvi_py_meta {
	size_t len;
	unsigned char bytes[KVT_META_LEN_MAX];
};

/*
 * Get the memory of a C-contiguous object without a copy; name is its parameter. TypeError for what
 * is no buffer, not C-contiguous, or holds Python objects; with writable, for read-only memory too.
 */
int kvi_py_get_view(PyObject *object, const char *name, bool writable, Py_buffer *view);

/* Describe object, whose memory view is. ValueError when the description is too long to travel. */
int kvi_py_describe(PyObject *object, const Py_buffer *view, struct kvi_py_meta *meta);

enum { KVI_PY_DIMS_MAX = 64 };

/* What a received message is to become. */
struct kvi_py_description {
	PyObject *dtype;
	int dim_count;
	Py_ssize_t dims[KVI_PY_DIMS_MAX];
};

/* Read the description of a message of len bytes: 1, or 0 when it cannot be used; why tells it. */
int kvi_py_read_description(const void *meta, size_t meta_len, size_t len,
			    struct kvi_py_description *description, char why[KVT_TEXT_LEN]);

/* An ndarray that owns data (from malloc; freed here on failure). Uses up description->dtype and
 * runs no Python code. */
PyObject *kvi_py_adopt_array(struct kvi_py_description *description, void *data);

#endif
