/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paged.h - what the files for paged transfers share: memory and its blocks, pools, remotes. As
 * ext.h, it never includes NumPy's headers, and all of it is touched with the GIL held.
 */
#ifndef KVI_PYTHON_PAGED_H
#define KVI_PYTHON_PAGED_H

#include "ext.h"

/* ---- memory.c ---- */

/* How the blocks of one extent lie there. */
struct kvi_py_layout {
	struct kvt_extent extent;
	size_t block_len;
	bool read_only;
};

/* How register() was told to cut memory: 0 where it was not. */
struct kvi_py_cut {
	size_t block_len;
	size_t stride;
};

/* Take the memory of object and find its blocks. TypeError for what shares none, ValueError for
 * what cannot be cut so; name is how the errors call it. */
int kvi_py_get_memory(PyObject *object, const char *name, const struct kvi_py_cut *cut,
		      Py_buffer *view, struct kvi_py_layout *layout);

/* ---- pool.c ---- */

/* Owns the library's pool and what it lies in. The ndarrays of allocated memory have it as their base. */
struct kvi_py_backing {
	PyObject_HEAD struct kvt_pool *handle;
	pid_t owner;
	Py_buffer *views;
	size_t view_count;
};

/* The type Pool. */
struct kvi_py_pool {
	PyObject_HEAD struct kvi_py_engine *engine; /* borrowed; NULL once closed */
	struct kvi_py_backing *backing;		    /* NULL once closed */
	unsigned users; /* start calls inside the library with the pool */
	size_t block_count;
	size_t block_len;
	size_t extent_count;
	bool read_only;
	PyObject *arrays; /* tuple: what was registered; NULL when the engine allocated it */
	PyObject *dtype;  /* of allocated memory */
	PyObject *shape;
};

extern PyType_Spec kvi_py_backing_spec;
extern PyType_Spec kvi_py_pool_spec;

PyObject *kvi_py_register(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_register_memory(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_allocate(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_adopt(PyObject *self, PyObject *args, PyObject *kwargs);

/* pool as a pool that is open and of this engine; TypeError or ValueError else. */
struct kvi_py_pool *kvi_py_check_pool(struct kvi_py_engine *engine, PyObject *pool);

/* Close what the engine has open, when the engine has stopped. */
void kvi_py_drop_pools(struct kvi_py_engine *engine);

/* ---- conn.c ---- */

/* Let go of the exports of a pool (NULL: of all) in the table of a connection, or of what is offered to all. */
void kvi_py_drop_exports(PyObject *table, PyObject *pool);

/* ---- remote.c ---- */

/* Owns an export; it stands in the table of its connection. */
struct kvi_py_export {
	PyObject_HEAD struct kvt_export *handle;
	struct kvt_offer *offer; /* in its place: it stands in the engine's table */
	PyObject *pool;
	pid_t owner;
};

/* The type Remote. */
struct kvi_py_remote {
	PyObject_HEAD struct kvt_remote *handle; /* NULL once closed and the last user has left */
	PyObject *conn;
	unsigned users;
	bool closed;
	pid_t owner;
};

extern PyType_Spec kvi_py_export_spec;
extern PyType_Spec kvi_py_remote_spec;

PyObject *kvi_py_export(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_withdraw(PyObject *self, PyObject *what);
PyObject *kvi_py_offer(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_withdraw_offer(PyObject *self, PyObject *what);
PyObject *kvi_py_import_remote(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_find_remote(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_import_async(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_remote_async(PyObject *self, PyObject *args, PyObject *kwargs);

/* remote as one that is open and of this connection; TypeError or ValueError else. */
struct kvi_py_remote *kvi_py_check_remote(struct kvi_py_conn *conn, PyObject *remote);
void kvi_py_leave_remote(struct kvi_py_remote *remote);

/* ---- paged.c ---- */

PyObject *kvi_py_write_blocks(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_read_blocks(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_write_spans(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_read_spans(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_write_parts(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_read_parts(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *kvi_py_notify(PyObject *self, PyObject *args, PyObject *kwargs);

/* ---- arrays.c ---- */

/* As kvi_py_get_view, but strides are allowed and read-only memory is too. */
int kvi_py_get_strided(PyObject *object, const char *name, Py_buffer *view);

/* Block numbers of both sides, and what they are read from. */
struct kvi_py_indices {
	PyObject *arrays[3]; /* owned: local, remote, and lengths of spans */
	const void *data[3];
	size_t item_len;
	size_t count;
};

/* Read two arrays of block numbers, or three of spans. TypeError for a wrong dtype or shape, ValueError
 * when lengths differ or a number of a span is negative. */
int kvi_py_get_blocks(PyObject *local, PyObject *remote, struct kvi_py_indices *indices);
int kvi_py_get_spans(PyObject *const objects[3], struct kvi_py_indices *indices);
void kvi_py_release_indices(struct kvi_py_indices *indices);

/* True when a block number is outside of its side's count. */
bool kvi_py_is_outside(const struct kvi_py_indices *indices, size_t local_count,
		       size_t remote_count);

/* count blocks of shape and dtype, at data, which base keeps. */
PyObject *kvi_py_wrap_blocks(void *data, size_t count, PyObject *dtype, PyObject *shape,
			     bool read_only, PyObject *base);

/* The dtype and shape of a block of *block_len bytes, as allocate() was asked for; *block_len may be
 * 0, and dtype and shape None, where the others tell. */
int kvi_py_resolve_block(PyObject **dtype, PyObject **shape, size_t *block_len);

#endif
