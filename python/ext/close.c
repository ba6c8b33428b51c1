/* SPDX-License-Identifier: Apache-2.0 */
/*
 * close.c - closing an engine and everything that belongs to it, in the order that users.c tells. It may be
 * called again, also by the finalizer.
 */
#include "paged.h"

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
