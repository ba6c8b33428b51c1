/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - from the arguments of Engine() to an open engine. It refuses what C would read as "the
 * default" (0); what the library can judge better (names, products, ratios) is left to it.
 */
#include "ext.h"

#include <string.h>

enum {
	NCPUS_MAX = 256,
	NCONN_MAX = 1024,
	EAGER_LEN_MAX = 1 << 20,
	CPU_MAX = 1 << 16,
};

/* What Engine() was given, as Python objects, and what the configuration points to. */
struct engine_args {
	PyObject *interface, *ncpus, *nconn_per_cpu, *listen_port;
	PyObject *eager_len, *heartbeat, *lost_after, *spin, *cpus;
	const char *provider, *lane_ports;
	Py_buffer auth_key; /* its obj is NULL when it is left out */
	PyObject *identity_object;
	Py_buffer identity; /* its obj is NULL when it is left out */
	int insecure, accept_events, checksum;
	PyObject *names;	 /* owned: a tuple of str */
	const char **interfaces; /* owned; points into names */
	unsigned *cpu_list;	 /* owned */
};

static void free_args(struct engine_args *args)
{
	PyMem_Free(args->cpu_list);
	PyMem_Free(args->interfaces);
	Py_XDECREF(args->names);
	PyBuffer_Release(&args->auth_key);
	PyBuffer_Release(&args->identity);
}

static int parse_args(PyObject *args, PyObject *kwargs, struct engine_args *out)
{
	/* clang-format off */
	static char *names[] = {
		"interface", "ncpus", "nconn_per_cpu", "listen_port",
		"provider", "eager_nbytes", "heartbeat", "lost_after", "spin", "cpus",
		"lane_ports", "auth_key", "insecure", "identity", "accept_events",
		"checksum", NULL,
	};
	int parsed = PyArg_ParseTupleAndKeywords(
		args, kwargs, "O|OOO$zOOOOOzz*pOpp:Engine", names,
		&out->interface, &out->ncpus, &out->nconn_per_cpu, &out->listen_port,
		&out->provider, &out->eager_len, &out->heartbeat, &out->lost_after, &out->spin,
		&out->cpus, &out->lane_ports, &out->auth_key, &out->insecure,
		&out->identity_object, &out->accept_events, &out->checksum);
	/* clang-format on */
	return parsed ? 0 : -1;
}

static const char *get_interface_name(PyObject *name)
{
	if (!PyUnicode_Check(name)) {
		PyErr_Format(PyExc_TypeError,
			     "interface must be a str or a sequence of str, not of %.200s",
			     Py_TYPE(name)->tp_name);
		return NULL;
	}
	Py_ssize_t len;
	const char *text = PyUnicode_AsUTF8AndSize(name, &len);
	if (text != NULL && (len == 0 || strlen(text) != (size_t)len)) {
		PyErr_SetString(PyExc_ValueError, "interface is empty or has a null character");
		return NULL;
	}
	return text;
}

static int parse_interfaces(struct engine_args *args, struct kvt_engine_config *config)
{
	if (PyUnicode_Check(args->interface))
		args->names = PyTuple_Pack(1, args->interface);
	else if (PySequence_Check(args->interface) && !PyObject_CheckBuffer(args->interface))
		args->names = PySequence_Tuple(args->interface);
	else
		PyErr_Format(PyExc_TypeError,
			     "interface must be a str or a sequence of str, not %.200s",
			     Py_TYPE(args->interface)->tp_name);
	if (args->names == NULL)
		return -1;

	Py_ssize_t count = PyTuple_Size(args->names);
	if (count == 0) {
		PyErr_SetString(PyExc_ValueError, "interface is an empty sequence");
		return -1;
	}
	args->interfaces = PyMem_Calloc((size_t)count, sizeof(*args->interfaces));
	if (args->interfaces == NULL) {
		PyErr_SetString(PyExc_MemoryError, "no memory for the list of interfaces");
		return -1;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		args->interfaces[i] = get_interface_name(PyTuple_GetItem(args->names, i));
		if (args->interfaces[i] == NULL)
			return -1;
	}
	config->interfaces = args->interfaces;
	config->interface_count = (size_t)count;
	return 0;
}

static int parse_cpus(struct engine_args *args, struct kvt_engine_config *config)
{
	if (args->cpus == NULL || args->cpus == Py_None)
		return 0;
	PyObject *list = PySequence_Tuple(args->cpus);
	if (list == NULL)
		return -1;
	Py_ssize_t count = PyTuple_Size(list);
	if (count == 0) {
		PyErr_SetString(PyExc_ValueError, "cpus is an empty sequence");
		goto err_list;
	}
	args->cpu_list = PyMem_Calloc((size_t)count, sizeof(*args->cpu_list));
	if (args->cpu_list == NULL) {
		PyErr_SetString(PyExc_MemoryError, "no memory for the list of CPUs");
		goto err_list;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		long long cpu;
		if (kvi_py_parse_int(PyTuple_GetItem(list, i), "a CPU", 0, CPU_MAX, &cpu) < 0)
			goto err_list;
		args->cpu_list[i] = (unsigned)cpu;
	}
	config->cpus = args->cpu_list;
	config->cpu_count = (size_t)count;
	Py_DECREF(list);
	return 0;

err_list:
	Py_DECREF(list);
	return -1;
}

/* Parse an int that may be left out; *number keeps its value then. */
static int parse_optional(PyObject *value, const char *name, long long min, long long max,
			  long long *number)
{
	if (value == NULL || value == Py_None)
		return 0;
	return kvi_py_parse_int(value, name, min, max, number);
}

/* Parse a time that is more than 0 seconds; left out, *ns is 0: the default. */
static int parse_interval(PyObject *value, const char *name, int64_t *ns)
{
	if (kvi_py_parse_seconds(value, name, ns) < 0)
		return -1;
	if (*ns == KVT_NOWAIT) {
		PyErr_Format(PyExc_ValueError, "%s must be more than 0 seconds", name);
		return -1;
	}
	return 0;
}

static int fill_config(struct engine_args *args, struct kvt_engine_config *config)
{
	long long ncpus = 0, nconn = 0, port = 0, eager_len = -1;

	if (args->identity_object != NULL && args->identity_object != Py_None &&
	    PyObject_GetBuffer(args->identity_object, &args->identity, PyBUF_SIMPLE) < 0)
		return -1;
	if (parse_interfaces(args, config) < 0 || parse_cpus(args, config) < 0 ||
	    parse_optional(args->ncpus, "ncpus", 1, NCPUS_MAX, &ncpus) < 0 ||
	    parse_optional(args->nconn_per_cpu, "nconn_per_cpu", 1, NCONN_MAX, &nconn) < 0 ||
	    parse_optional(args->listen_port, "listen_port", 0, UINT16_MAX, &port) < 0 ||
	    parse_optional(args->eager_len, "eager_nbytes", 0, EAGER_LEN_MAX, &eager_len) < 0 ||
	    parse_interval(args->heartbeat, "heartbeat", &config->heartbeat_ns) < 0 ||
	    parse_interval(args->lost_after, "lost_after", &config->lost_after_ns) < 0 ||
	    kvi_py_parse_seconds(args->spin, "spin", &config->spin_ns) < 0)
		return -1;
	config->provider = args->provider;
	config->lane_ports = args->lane_ports;
	config->auth_key = args->auth_key.buf;
	config->auth_key_len = (size_t)args->auth_key.len;
	config->insecure = args->insecure != 0;
	config->accept_events = args->accept_events != 0;
	config->checksum = args->checksum != 0;
	config->identity = args->identity.buf;
	config->identity_len = (size_t)args->identity.len;
	config->ncpus = (unsigned)ncpus;
	config->nconn_per_cpu = (unsigned)nconn;
	config->listen_port = (uint16_t)port;
	if (eager_len >= 0)
		config->eager_len = eager_len == 0 ? KVT_NO_EAGER : (size_t)eager_len;
	config->interrupted = kvi_py_check_interrupt;
	return 0;
}

int kvi_py_open_engine(struct kvi_py_engine *self, PyObject *args, PyObject *kwargs)
{
	struct engine_args parsed = { 0 };
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	struct kvt_error error = { 0 };

	if (parse_args(args, kwargs, &parsed) < 0)
		return -1;
	if (fill_config(&parsed, &config) < 0 ||
	    (config.insecure &&
	     PyErr_WarnEx(PyExc_RuntimeWarning,
			  "an insecure engine lets in whoever reaches its port", 1) < 0)) {
		free_args(&parsed);
		return -1;
	}
	PyThreadState *thread = PyEval_SaveThread();
	enum kvt_err err = kvt_engine_open(&config, &self->handle, &error);
	PyEval_RestoreThread(thread);
	free_args(&parsed);
	self->accept_events = config.accept_events;
	if (err == KVT_OK)
		self->closed = false;
	else if (!PyErr_Occurred())
		kvi_py_raise(kvi_py_get_state((PyObject *)self), &error, 0);
	return PyErr_Occurred() ? -1 : 0;
}
