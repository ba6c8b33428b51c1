/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - the type Engine: its life and its attributes. It never moves data: methods.c lists the methods
 * and conn.c, kv.c, pool.c and others hold them; config.c has what the constructor takes, close.c ends it.
 */
#include "ext.h"

#include <stddef.h>
#include <structmember.h>
#include <unistd.h>

/* ---- life ---- */

static PyObject *open_engine(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_state *state = PyType_GetModuleState(type);
	struct kvi_py_engine *self = (struct kvi_py_engine *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->closed = true; /* nothing to close until it is open */
	self->owner = getpid();
	self->conns = PyDict_New();
	self->kvs = PyDict_New();
	self->pools = PySet_New(NULL);
	self->offers = PyDict_New();
	self->self_ref = PyWeakref_NewRef((PyObject *)self, NULL);
	if (kvi_py_open_dispatch(&self->dispatch) < 0 || self->conns == NULL || self->kvs == NULL ||
	    self->pools == NULL || self->offers == NULL || self->self_ref == NULL ||
	    kvi_py_open_engine(self, args, kwargs) < 0)
		goto err_self;
	PyObject *added = PyObject_CallMethod(state->live_engines, "add", "O", self);
	if (added == NULL)
		goto err_self;
	Py_DECREF(added);
	return (PyObject *)self;

err_self:
	kvi_py_close_engine(self);
	Py_DECREF(self);
	return NULL;
}

static PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct kvi_py_section section;

	kvi_py_lock(&section, type);
	PyObject *self = open_engine(type, args, kwargs);
	kvi_py_unlock(&section);
	return self;
}

static void finalize(PyObject *self)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *type, *value, *traceback;

	if (engine->closed)
		return;
	PyErr_Fetch(&type, &value, &traceback);
	if (!kvi_py_is_forked(engine->owner) &&
	    PyErr_ResourceWarning(self, 1, "unclosed engine %R", self) < 0)
		PyErr_WriteUnraisable(self);
	kvi_py_close_engine(engine);
	PyErr_Restore(type, value, traceback);
}

static void engine_finalize(PyObject *self)
{
	struct kvi_py_section section;

	kvi_py_lock(&section, Py_TYPE(self));
	finalize(self);
	kvi_py_unlock(&section);
}

static int engine_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(engine->conns);
	Py_VISIT(engine->kvs);
	Py_VISIT(engine->pools);
	Py_VISIT(engine->offers);
	Py_VISIT(engine->last_error);
	return kvi_py_traverse_dispatch(&engine->dispatch, visit, arg);
}

/* The tables stay: a cycle through a registered buffer is broken by the finalizer, which closes. */
static int engine_clear(PyObject *self)
{
	Py_CLEAR(((struct kvi_py_engine *)self)->last_error);
	return 0;
}

static void engine_dealloc(PyObject *self)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (PyObject_CallFinalizerFromDealloc(self) < 0)
		return;
	PyObject_GC_UnTrack(self);
	if (engine->weakrefs != NULL)
		PyObject_ClearWeakRefs(self);
	Py_CLEAR(engine->conns);
	Py_CLEAR(engine->kvs);
	Py_CLEAR(engine->pools);
	Py_CLEAR(engine->offers);
	Py_CLEAR(engine->last_error);
	Py_CLEAR(engine->self_ref);
	kvi_py_free_dispatch(&engine->dispatch);
	type->tp_free(self);
	Py_DECREF(type);
}

/* ---- attributes ---- */

static PyObject *engine_get_port(PyObject *self, void *closure)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)closure;
	return kvi_py_check_open(engine) < 0 ? NULL
					     : PyLong_FromLong(kvt_engine_get_port(engine->handle));
}

static PyObject *engine_get_host(PyObject *self, void *closure)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)closure;
	return kvi_py_check_open(engine) < 0
		       ? NULL
		       : PyUnicode_FromString(kvt_engine_get_host(engine->handle));
}

static PyObject *engine_get_address(PyObject *self, void *closure)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	size_t len = 0;

	(void)closure;
	if (kvi_py_check_open(engine) < 0)
		return NULL;
	kvt_engine_get_address(engine->handle, NULL, &len);
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
	if (bytes != NULL)
		kvt_engine_get_address(engine->handle, PyBytes_AS_STRING(bytes), &len);
	return bytes;
}

static PyObject *engine_get_provider(PyObject *self, void *closure)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)closure;
	return kvi_py_check_open(engine) < 0
		       ? NULL
		       : PyUnicode_FromString(kvt_engine_get_provider(engine->handle));
}

static PyObject *engine_get_last_error(PyObject *self, void *closure)
{
	PyObject *last_error = ((struct kvi_py_engine *)self)->last_error;

	(void)closure;
	return Py_NewRef(last_error != NULL ? last_error : Py_None);
}

static PyObject *engine_get_closed(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct kvi_py_engine *)self)->closed);
}

static PyObject *engine_repr(PyObject *self)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	if (engine->closed)
		return PyUnicode_FromString("<kvtrans_engine.Engine, closed>");
	if (kvi_py_is_forked(engine->owner))
		return PyUnicode_FromString("<kvtrans_engine.Engine of the parent process>");
	return PyUnicode_FromFormat("<kvtrans_engine.Engine on port %d, %s>",
				    (int)kvt_engine_get_port(engine->handle),
				    kvt_engine_get_provider(engine->handle));
}

KVI_PY_LOCKED_REPR(engine_repr)

static PyMemberDef engine_members[] = {
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(struct kvi_py_engine, weakrefs), READONLY,
	  NULL },
	{ NULL, 0, 0, 0, NULL },
};

KVI_PY_LOCKED_GETTER(engine_get_port)
KVI_PY_LOCKED_GETTER(engine_get_host)
KVI_PY_LOCKED_GETTER(engine_get_address)
KVI_PY_LOCKED_GETTER(engine_get_provider)
KVI_PY_LOCKED_GETTER(engine_get_last_error)
KVI_PY_LOCKED_GETTER(engine_get_closed)

static PyGetSetDef engine_getset[] = {
	{ "port", engine_get_port_locked, NULL, "The TCP port that connect() of a peer takes.",
	  NULL },
	{ "host", engine_get_host_locked, NULL, "The IP address of its first interface.", NULL },
	{ "address", engine_get_address_locked, NULL,
	  "Bytes for open_connection() of a peer: its hosts and port, and that it is this engine.",
	  NULL },
	{ "provider", engine_get_provider_locked, NULL, "The libfabric provider in use.", NULL },
	{ "last_error", engine_get_last_error_locked, NULL,
	  "The exception object of the last classic call that failed, or None.", NULL },
	{ "closed", engine_get_closed_locked, NULL, "True once close() was called.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static const char engine_doc[] =
	"Engine(interface, ncpus=None, nconn_per_cpu=None, listen_port=0, *, provider=None, "
	"eager_nbytes=None, heartbeat=None, lost_after=None, spin=None, cpus=None, "
	"lane_ports=None, auth_key=None, insecure=False, identity=None, "
	"accept_events=False, checksum=False)\n--\n\n"
	"Moves KV cache to and from other processes over one or more network interfaces.\n\n"
	"interface: a name, an RDMA device, an IP address, or a sequence of them. ncpus: workers.\n"
	"nconn_per_cpu: lanes per worker and connection. listen_port: 0 takes a free one. "
	"eager_nbytes:\n"
	"bytes, 0 turns eager sends off. heartbeat, lost_after, spin: seconds. cpus: CPUs to pin\n"
	"workers to. lane_ports: what peers connect their lanes to, as \"40000-40100\", for a "
	"firewall.\nauth_key: 32 bytes, or the text of a key file; by default the user's key file. "
	"insecure: no\nkeys, everybody is let in. identity: up to 1,024 bytes that peers see as "
	"conn.peer_identity.\nchecksum: every byte is checked on its way. Every method may be "
	"called from any "
	"thread;\ndocs/python.md is the manual.";

static PyType_Slot engine_slots[] = {
	{ Py_tp_doc, (void *)engine_doc },
	{ Py_tp_new, engine_new },
	{ Py_tp_finalize, engine_finalize },
	{ Py_tp_dealloc, engine_dealloc },
	{ Py_tp_traverse, engine_traverse },
	{ Py_tp_clear, engine_clear },
	{ Py_tp_repr, engine_repr_locked },
	{ Py_tp_members, engine_members },
	{ Py_tp_getset, engine_getset },
	{ Py_tp_methods, kvi_py_engine_methods },
	{ 0, NULL },
};

PyType_Spec kvi_py_engine_spec = {
	.name = "kvtrans_engine.Engine",
	.basicsize = sizeof(struct kvi_py_engine),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = engine_slots,
};
