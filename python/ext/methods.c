/* SPDX-License-Identifier: Apache-2.0 */
/*
 * methods.c - the methods of Engine, with their documentation, and those of one line. What they do
 * stands in the file of their noun.
 */
#include "paged.h"

static PyObject *engine_close(PyObject *self, PyObject *args)
{
	(void)args;
	kvi_py_close_engine((struct kvi_py_engine *)self);
	Py_RETURN_NONE;
}

static PyObject *engine_enter(PyObject *self, PyObject *args)
{
	(void)args;
	return kvi_py_check_open((struct kvi_py_engine *)self) < 0 ? NULL : Py_NewRef(self);
}

/* The module aio, for an engine that is open. */
static PyObject *import_aio(PyObject *self)
{
	struct kvi_py_section section;

	kvi_py_lock(&section, Py_TYPE(self));
	int rc = kvi_py_check_open((struct kvi_py_engine *)self);
	kvi_py_unlock(&section);
	return rc < 0 ? NULL : PyImport_ImportModule("kvtrans_engine.aio");
}

static PyObject *accept_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "timeout", NULL };
	PyObject *timeout = NULL;
	int64_t timeout_ns;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:accept_async", names, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &timeout_ns) < 0)
		return NULL;
	PyObject *aio = import_aio(self);
	if (aio == NULL)
		return NULL;
	PyObject *coroutine = timeout_ns == 0 || timeout_ns == KVT_FOREVER
				      ? PyObject_CallMethod(aio, "accept", "O", self)
				      : PyObject_CallMethod(aio, "accept", "Od", self,
							    timeout_ns == KVT_NOWAIT
								    ? 0.0
								    : (double)timeout_ns * 1e-9);
	Py_DECREF(aio);
	return coroutine;
}

static PyObject *anotifications(PyObject *self, PyObject *args)
{
	(void)args;
	PyObject *aio = import_aio(self);
	if (aio == NULL)
		return NULL;
	PyObject *iterator = PyObject_CallMethod(aio, "iterate_notifications", "O", self);
	Py_DECREF(aio);
	return iterator;
}

KVI_PY_LOCKED_KEYWORDS(kvi_py_connect)
KVI_PY_LOCKED_KEYWORDS(kvi_py_accept)
KVI_PY_LOCKED_KEYWORDS(kvi_py_disconnect)
KVI_PY_LOCKED_KEYWORDS(kvi_py_status)
KVI_PY_LOCKED_KEYWORDS(kvi_py_stats)
KVI_PY_LOCKED_KEYWORDS(kvi_py_reload_keys)
KVI_PY_LOCKED_KEYWORDS(kvi_py_reg_kv)
KVI_PY_LOCKED_KEYWORDS(kvi_py_dereg_kv)
KVI_PY_LOCKED_KEYWORDS(kvi_py_send_kv)
KVI_PY_LOCKED_KEYWORDS(kvi_py_recv_kv)
KVI_PY_LOCKED_KEYWORDS(kvi_py_recv_kv_into)
KVI_PY_LOCKED_KEYWORDS(kvi_py_send_kv_async)
KVI_PY_LOCKED_KEYWORDS(kvi_py_recv_kv_async)
KVI_PY_LOCKED_KEYWORDS(kvi_py_recv_kv_into_async)
KVI_PY_LOCKED_KEYWORDS(kvi_py_open_connection)
KVI_PY_LOCKED_KEYWORDS(kvi_py_accept_connection)
KVI_PY_LOCKED_KEYWORDS(kvi_py_connect_async)
KVI_PY_LOCKED(kvi_py_accepted)
KVI_PY_LOCKED(kvi_py_next_arrival)
KVI_PY_LOCKED_KEYWORDS(kvi_py_connection)
KVI_PY_LOCKED_KEYWORDS(kvi_py_register)
KVI_PY_LOCKED_KEYWORDS(kvi_py_offer)
KVI_PY_LOCKED(kvi_py_withdraw_offer)
KVI_PY_LOCKED_KEYWORDS(kvi_py_register_memory)
KVI_PY_LOCKED_KEYWORDS(kvi_py_allocate)
KVI_PY_LOCKED_KEYWORDS(kvi_py_adopt)
KVI_PY_LOCKED_KEYWORDS(kvi_py_wait)
KVI_PY_LOCKED(kvi_py_reap)
KVI_PY_LOCKED(kvi_py_notifications)
KVI_PY_LOCKED(kvi_py_fileno)
KVI_PY_LOCKED(kvi_py_pull)
KVI_PY_LOCKED(kvi_py_next_notification)
KVI_PY_LOCKED(kvi_py_dup_fd)
KVI_PY_LOCKED(kvi_py_add_listener)
KVI_PY_LOCKED(kvi_py_remove_listener)
KVI_PY_LOCKED(engine_close)
KVI_PY_LOCKED(engine_enter)

#define METHOD(name, function, doc)                                                                \
	{                                                                                          \
		name, (PyCFunction)(void (*)(void))function##_locked,                              \
			METH_VARARGS | METH_KEYWORDS, doc                                          \
	}

PyMethodDef kvi_py_engine_methods[] = {
	METHOD("connect", kvi_py_connect,
	       "connect($self, host, port=None, timeout=5.0)\n--\n\n"
	       "Connect to the engine at host:port, or of an address: (True, conn_id), or (False, "
	       "None)."),
	METHOD("accept", kvi_py_accept,
	       "accept($self, timeout=None)\n--\n\n"
	       "Take the next peer that connected: (True, ip, port, conn_id), or\n"
	       "(False, None, None, None). Without a timeout it waits for ever."),
	METHOD("disconnect", kvi_py_disconnect,
	       "disconnect($self, conn_id)\n--\n\n"
	       "Close a connection; what is in flight on it fails. Its KVs stay until "
	       "dereg_kv()."),
	METHOD("status", kvi_py_status,
	       "status($self, conn_id)\n--\n\n"
	       "None while the connection is open, else the exception object that says why "
	       "not."),
	METHOD("stats", kvi_py_stats,
	       "stats($self, conn_id=None)\n--\n\n"
	       "Counters of the engine or of one connection, as a dict of int. send_latency "
	       "is a\n"
	       "list: item i counts sends that took from 2**i up to 2**(i + 1) "
	       "nanoseconds."),
	METHOD("reload_keys", kvi_py_reload_keys,
	       "reload_keys($self, auth_key=None)\n--\n\n"
	       "Take other keys from now on: auth_key, or those that the key file has now. "
	       "Connections\n"
	       "stay as they are. When it raises, so do the keys."),
	METHOD("reg_kv", kvi_py_reg_kv,
	       "reg_kv($self, conn_id, data, tag=None)\n--\n\n"
	       "Bind the memory of data to a connection: (True, kv_id), or (False, None). "
	       "Without "
	       "a\n"
	       "tag the n-th KV on this side meets the n-th on the other. data is kept "
	       "until\n"
	       "dereg_kv()."),
	METHOD("dereg_kv", kvi_py_dereg_kv,
	       "dereg_kv($self, kv_id)\n--\n\n"
	       "Undo reg_kv(): fail what is in flight and let go of the memory, which "
	       "nobody "
	       "touches\n"
	       "any more."),
	METHOD("send_kv", kvi_py_send_kv,
	       "send_kv($self, kv_id, data, timeout=60.0)\n--\n\n"
	       "Send data with its dtype and shape. True once the receiver has it, else "
	       "False."),
	METHOD("recv_kv", kvi_py_recv_kv,
	       "recv_kv($self, kv_id, max_size=None, timeout=None)\n--\n\n"
	       "Receive a message of at most max_size bytes: (True, ndarray), or (False, "
	       "None). "
	       "The\n"
	       "array owns its memory."),
	METHOD("recv_kv_into", kvi_py_recv_kv_into,
	       "recv_kv_into($self, kv_id, out=None, timeout=None)\n--\n\n"
	       "Receive into out, or into the registered memory: (True, nbytes), or (False, "
	       "0)."),
	METHOD("send_kv_async", kvi_py_send_kv_async,
	       "send_kv_async($self, kv_id, data, timeout=60.0)\n--\n\n"
	       "Start send_kv() and return a Transfer whose result is True. Never blocks; "
	       "raises\n"
	       "when it cannot start. data must stay unchanged until the transfer is done."),
	METHOD("recv_kv_async", kvi_py_recv_kv_async,
	       "recv_kv_async($self, kv_id, max_size=None, timeout=None)\n--\n\n"
	       "Start recv_kv() and return a Transfer whose result is an ndarray. Never "
	       "blocks;\n"
	       "raises when it cannot start."),
	METHOD("recv_kv_into_async", kvi_py_recv_kv_into_async,
	       "recv_kv_into_async($self, kv_id, out=None, timeout=None)\n--\n\n"
	       "Start recv_kv_into() and return a Transfer whose result is the message's "
	       "length "
	       "in\n"
	       "bytes. Never blocks; raises when it cannot start."),
	METHOD("open_connection", kvi_py_open_connection,
	       "open_connection($self, host, port=None, timeout=5.0)\n--\n\n"
	       "Connect to the engine at host:port, or of the address (bytes, engine.address "
	       "there) that\n"
	       "stands in their place, and return a Connection, or raise."),
	METHOD("connect_async", kvi_py_connect_async,
	       "connect_async($self, host, port=None, timeout=5.0)\n--\n\n"
	       "Connect without waiting, as open_connection(): a Transfer, whose result is the "
	       "Connection.\n"
	       "It can be awaited."),
	{ "accepted", kvi_py_accepted_locked, METH_NOARGS,
	  "accepted($self)\n--\n\n"
	  "The peers that have connected, of an engine with accept_events: a list of Connection. "
	  "Never\nwaits." },
	{ "accept_async", (PyCFunction)(void (*)(void))accept_async, METH_VARARGS | METH_KEYWORDS,
	  "accept_async($self, timeout=None)\n--\n\n"
	  "Await the next peer that connects, of an engine with accept_events: a Connection." },
	{ "_next_arrival", kvi_py_next_arrival_locked, METH_NOARGS,
	  "_next_arrival($self)\n--\n\nOne peer that has connected, or None." },
	METHOD("accept_connection", kvi_py_accept_connection,
	       "accept_connection($self, timeout=None)\n--\n\n"
	       "Take the next peer that connected: a Connection. Raises TransferTimeout "
	       "when none\n"
	       "came in time; without a timeout it waits for ever."),
	METHOD("connection", kvi_py_connection,
	       "connection($self, conn_id)\n--\n\nThe Connection of an id."),
	METHOD("export", kvi_py_offer,
	       "export($self, pool, name, access='rw')\n--\n\n"
	       "Export a pool to every peer, by name: on all connections of now and later."),
	{ "withdraw", kvi_py_withdraw_offer_locked, METH_O,
	  "withdraw($self, what, /)\n--\n\n"
	  "Take back what export() gave to every peer: a name, or a Pool for all of its names." },
	METHOD("register_memory", kvi_py_register_memory,
	       "register_memory($self, memory, block_nbytes=1, read_only=False)\n--\n\n"
	       "Make a Pool of raw memory: a list of (address, nbytes), each an extent. Nothing "
	       "keeps it "
	       "there:\n"
	       "it must stay until the pool is closed."),
	METHOD("register", kvi_py_register,
	       "register($self, arrays, block_nbytes=None, stride=None)\n--\n\n"
	       "Make a Pool of blocks of an array, or of a list of arrays with the same "
	       "block "
	       "numbers.\n\n"
	       "An array is an ndarray, another buffer, or a DLPack tensor of the CPU. Its "
	       "first "
	       "axis\n"
	       "numbers the blocks, each of them contiguous; with block_nbytes, contiguous "
	       "memory "
	       "is cut\n"
	       "into blocks of that size, which begin every stride bytes. Nothing is "
	       "copied."),
	METHOD("allocate", kvi_py_allocate,
	       "allocate($self, block_count, block_nbytes=None, *, extent_count=1, dtype=None, "
	       "shape=None, shared=True, prefault=False, hugepages=False)"
	       "\n--\n\n"
	       "Make a Pool of block_count blocks in zeroed memory of the engine, in each extent. "
	       "Give "
	       "the\n"
	       "size of a block, or its dtype and shape. The memory is seen through "
	       "pool.arrays.\n\n"
	       "shared=False: no peer maps it, also on one host. prefault: all pages are there\n"
	       "when this returns; hugepages: and huge, as far as the kernel can."),
	METHOD("adopt", kvi_py_adopt,
	       "adopt($self, fd, block_count, block_nbytes=None, *, extent_count=1, offset=0, "
	       "read_only=False, dtype=None, shape=None, shared=True, prefault=False, "
	       "hugepages=False)"
	       "\n--\n\n"
	       "Make a Pool of a file in memory that somebody else made, a memfd or one in "
	       "/dev/shm,\n"
	       "from offset on, the extents one behind the other. fd can be closed afterwards. "
	       "Peers\n"
	       "of this host map it only when it is sealed with F_SEAL_SHRINK. The rest is as "
	       "with\n"
	       "allocate()."),
	{ "reap", kvi_py_reap_locked, METH_NOARGS,
	  "reap($self)\n--\n\n"
	  "The paged transfers that have ended and whose outcome nobody has taken, each once, in\n"
	  "the order of completion. Runs the callbacks that are due. Never waits." },
	{ "notifications", kvi_py_notifications_locked, METH_NOARGS,
	  "notifications($self)\n--\n\n"
	  "The notifications that have come: a list of Notification(conn, data, error). Never "
	  "waits." },
	{ "anotifications", anotifications, METH_NOARGS,
	  "anotifications($self)\n--\n\n"
	  "An asynchronous iterator over notifications; it ends when the engine is closed." },
	METHOD("wait", kvi_py_wait,
	       "wait($self, timeout=None)\n--\n\n"
	       "Wait until there is something for reap(), notifications() or accepted(), or a "
	       "connection has\n"
	       "ended: True. False when the time passed first."),
	{ "fileno", kvi_py_fileno_locked, METH_NOARGS,
	  "fileno($self)\n--\n\n"
	  "A descriptor that is readable while reap(), notifications() or accepted() has "
	  "something. "
	  "It is the\nengine's: only poll it." },
	{ "_pull", kvi_py_pull_locked, METH_NOARGS,
	  "_pull($self)\n--\n\nTake in what has happened; True when too much waits to be asked "
	  "for." },
	{ "_next_notification", kvi_py_next_notification_locked, METH_NOARGS,
	  "_next_notification($self)\n--\n\nOne notification, or None." },
	{ "_dup_fd", kvi_py_dup_fd_locked, METH_NOARGS,
	  "_dup_fd($self)\n--\n\nA copy of the library's descriptor, which is the caller's." },
	{ "_add_listener", kvi_py_add_listener_locked, METH_O,
	  "_add_listener($self, listener, /)\n--\n\n"
	  "Call listener() when notifications have come, or the engine is closed." },
	{ "_remove_listener", kvi_py_remove_listener_locked, METH_O,
	  "_remove_listener($self, listener, /)\n--\n\nUndo _add_listener()." },
	{ "close", engine_close_locked, METH_NOARGS,
	  "close($self)\n--\n\n"
	  "Tell the peers, fail what is in flight, free everything. Takes about 1 s at most, and\n"
	  "may be called again." },
	{ "__enter__", engine_enter_locked, METH_NOARGS,
	  "__enter__($self)\n--\n\nReturn the engine." },
	{ "__exit__", engine_close_locked, METH_VARARGS,
	  "__exit__($self, exc_type, exc_value, traceback)\n--\n\nClose the engine." },
	{ NULL, NULL, 0, NULL },
};
