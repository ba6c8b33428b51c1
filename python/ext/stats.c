/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.c - struct kvt_stats as a dict, and with it the path of a connection. It never counts anything itself.
 */
#include "ext.h"

#include <stddef.h>
#include <string.h>

struct counter {
	const char *name;
	size_t offset;
};

#define COUNTER(name)                                                                              \
	{                                                                                          \
#name, offsetof(struct kvt_stats, name)                                            \
	}

static const struct counter counters[] = {
	COUNTER(connections),
	COUNTER(connections_total),
	COUNTER(connections_lost),
	COUNTER(handshakes_failed),
	COUNTER(kvs),
	COUNTER(registrations),
	COUNTER(transfers),
	COUNTER(sends),
	COUNTER(receives),
	COUNTER(failures),
	COUNTER(bytes_sent),
	COUNTER(bytes_received),
	COUNTER(writes),
	COUNTER(reads),
	COUNTER(bytes_written),
	COUNTER(bytes_read),
	COUNTER(notifications),
	COUNTER(eager_sends),
	COUNTER(segments),
	COUNTER(corruptions),
};

enum { COUNTER_COUNT = sizeof(counters) / sizeof(counters[0]) };

_Static_assert(sizeof(struct kvt_stats) ==
		       sizeof(size_t) + (COUNTER_COUNT + KVT_LATENCY_BUCKETS) * sizeof(uint64_t),
	       "every field of struct kvt_stats is in the table");

/* Put a value whose reference is used up into a dict; NULL means that making it failed. */
static int put_new(PyObject *dict, const char *name, PyObject *value)
{
	if (value == NULL)
		return -1;
	int rc = PyDict_SetItemString(dict, name, value);
	Py_DECREF(value);
	return rc;
}

static PyObject *make_latency_list(const struct kvt_stats *stats)
{
	PyObject *list = PyList_New(KVT_LATENCY_BUCKETS);
	if (list == NULL)
		return NULL;
	for (int i = 0; i < KVT_LATENCY_BUCKETS; i++) {
		PyObject *count = PyLong_FromUnsignedLongLong(stats->send_latency[i]);
		if (count == NULL || PyList_SetItem(list, i, count) < 0) {
			Py_DECREF(list);
			return NULL;
		}
	}
	return list;
}

static PyObject *make_dict(const struct kvt_stats *stats)
{
	PyObject *dict = PyDict_New();
	if (dict == NULL)
		return NULL;
	for (size_t i = 0; i < COUNTER_COUNT; i++) {
		uint64_t value;
		memcpy(&value, (const char *)stats + counters[i].offset, sizeof(value));
		if (put_new(dict, counters[i].name, PyLong_FromUnsignedLongLong(value)) < 0)
			goto err_dict;
	}
	if (put_new(dict, "send_latency", make_latency_list(stats)) < 0)
		goto err_dict;
	return dict;

err_dict:
	Py_DECREF(dict);
	return NULL;
}

static PyObject *make_stats(PyObject *self, enum kvt_err err, const struct kvt_stats *stats)
{
	struct kvt_error error = { .code = err };

	if (err == KVT_OK)
		return make_dict(stats);
	kvi_py_raise(kvi_py_get_state(self), &error, 0);
	return NULL;
}

PyObject *kvi_py_get_conn_stats(struct kvi_py_conn *conn)
{
	struct kvt_stats stats = KVT_STATS_INIT;
	enum kvt_err err = kvt_conn_get_stats(conn->handle, &stats);
	PyObject *dict = make_stats((PyObject *)conn, err, &stats);
	const char *reason;

	if (dict == NULL)
		return NULL;
	const char *path = kvt_conn_get_path(conn->handle, &reason);
	if (put_new(dict, "path", PyUnicode_FromString(path)) < 0 ||
	    put_new(dict, "path_reason",
		    PyUnicode_DecodeUTF8(reason, (Py_ssize_t)strlen(reason), "replace")) < 0) {
		Py_DECREF(dict);
		return NULL;
	}
	return dict;
}

PyObject *kvi_py_stats(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "conn_id", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvt_stats stats = KVT_STATS_INIT;
	PyObject *id = Py_None;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:stats", names, &id) ||
	    kvi_py_check_open(engine) < 0)
		return NULL;
	if (id == Py_None)
		return make_stats(self, kvt_engine_get_stats(engine->handle, &stats), &stats);
	PyObject *conn = kvi_py_find(engine->conns, id, "connection");
	return conn == NULL ? NULL : kvi_py_get_conn_stats((struct kvi_py_conn *)conn);
}
