/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dial.c - this side calls: from a name to an open connection, on the caller's thread, within its time
 * limit. What may block on a peer (resolving, connecting, a provider's route look-up) happens here and
 * never on the engine's threads.
 */
#define _GNU_SOURCE 1 /* getaddrinfo_a */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "engine/conn.h"
#include "engine/control.h"
#include "engine/engine.h"

enum { SLICE_MS = 50 };

/* ---- resolving ---- */

/* One look-up. On the heap, because a look-up that cannot be cancelled goes on without us. */
struct lookup {
	struct gaicb request;
	struct addrinfo hints;
	char host[256];
	char service[8];
};

static enum kvt_err fail_lookup(const struct lookup *lookup, int status, struct kvt_error *error)
{
	return kvi_fail(error, KVT_E_UNREACHABLE, status == EAI_SYSTEM ? errno : 0,
			"cannot resolve %s: %s", lookup->host, gai_strerror(status));
}

/* Wait for a look-up, in slices that ask the interrupted hook. */
static enum kvt_err await_lookup(struct kvt_engine *engine, struct lookup *lookup,
				 int64_t deadline_ns, struct kvt_error *error)
{
	const struct gaicb *requests[] = { &lookup->request };
	struct timespec slice = { .tv_nsec = SLICE_MS * KVI_MS };
	int status;
	while ((status = gai_error(&lookup->request)) == EAI_INPROGRESS) {
		gai_suspend(requests, 1, &slice);
		if (kvi_engine_is_interrupted(engine))
			return kvi_fail(error, KVT_E_CANCELLED, 0, "interrupted while resolving %s",
					lookup->host);
		if (kvi_clock_now() >= deadline_ns || atomic_load(&engine->stopping))
			return kvi_fail(error, KVT_E_UNREACHABLE, 0, "cannot resolve %s in time",
					lookup->host);
	}
	return status == 0 ? KVT_OK : fail_lookup(lookup, status, error);
}

static enum kvt_err resolve(struct kvt_engine *engine, const char *host, uint16_t port,
			    int64_t deadline_ns, struct addrinfo **addresses,
			    struct kvt_error *error)
{
	struct lookup *lookup = kvi_alloc(sizeof(*lookup));
	if (lookup == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory to resolve %s", host);
	snprintf(lookup->host, sizeof(lookup->host), "%s", host);
	snprintf(lookup->service, sizeof(lookup->service), "%u", port);
	lookup->hints.ai_socktype = SOCK_STREAM;
	lookup->hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
	enum kvt_err err = KVT_OK;
	if (getaddrinfo(lookup->host, lookup->service, &lookup->hints, addresses) == 0)
		goto out_free;

	lookup->hints.ai_flags = AI_NUMERICSERV;
	lookup->request.ar_name = lookup->host;
	lookup->request.ar_service = lookup->service;
	lookup->request.ar_request = &lookup->hints;
	struct gaicb *requests[] = { &lookup->request };
	int status = getaddrinfo_a(GAI_NOWAIT, requests, 1, NULL);
	err = status == 0 ? await_lookup(engine, lookup, deadline_ns, error)
			  : fail_lookup(lookup, status, error);
	if (err == KVT_OK) {
		*addresses = lookup->request.ar_result;
	} else if (status == 0 && gai_cancel(&lookup->request) == EAI_NOTCANCELED) {
		return err; /* still in use by the resolver's thread: given up to it */
	}
out_free:
	kvi_free(lookup);
	return err;
}

/* ---- connecting ---- */

/* Connect one address; returns the socket or a negative errno (-ECANCELED: interrupted). */
static int connect_address(struct kvt_engine *engine, const struct addrinfo *address,
			   int64_t deadline_ns)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int err = connect(fd, address->ai_addr, address->ai_addrlen) == 0 ? 0 : errno;
	while (err == EINPROGRESS || err == EINTR) {
		struct pollfd pollfd = { .fd = fd, .events = POLLOUT };
		int ready = poll(&pollfd, 1, kvi_deadline_get_ms(deadline_ns, SLICE_MS));
		if (kvi_engine_is_interrupted(engine)) {
			err = ECANCELED;
		} else if (ready > 0) {
			socklen_t len = sizeof(err);
			if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
				err = errno;
		} else if (kvi_clock_now() >= deadline_ns || atomic_load(&engine->stopping)) {
			err = ETIMEDOUT;
		}
	}
	if (err == 0)
		return fd;
	close(fd);
	return -err;
}

static enum kvt_err connect_any(struct kvt_engine *engine, const struct addrinfo *addresses,
				int64_t deadline_ns, int *fd_out, struct kvt_error *error)
{
	int fd = -EADDRNOTAVAIL;
	for (const struct addrinfo *address = addresses;
	     address != NULL && fd < 0 && fd != -ECANCELED; address = address->ai_next)
		fd = connect_address(engine, address, deadline_ns);
	if (fd >= 0) {
		*fd_out = fd;
		return KVT_OK;
	}
	if (fd == -ECANCELED)
		return kvi_fail(error, KVT_E_CANCELLED, 0, "interrupted while connecting");
	if (fd == -EMFILE || fd == -ENFILE)
		return kvi_fail(error, KVT_E_LIMIT, -fd, "no descriptor for a connection: %s",
				strerror(-fd));
	return kvi_fail(error, KVT_E_UNREACHABLE, -fd, "cannot connect: %s", strerror(-fd));
}

/* ---- the connection ---- */

/* Wait until what() holds or the connection fails; the time limit and the hook make it fail. */
static enum kvt_err await_conn(struct kvt_conn *conn, bool (*what)(const struct kvt_conn *conn),
			       int64_t deadline_ns, struct kvt_error *error)
{
	struct kvt_engine *engine = conn->engine;
	enum kvt_err err = KVT_OK;
	bool gave_up = false;
	pthread_mutex_lock(&engine->lock);
	while (gave_up || !what(conn)) {
		err = kvi_conn_check(conn, error);
		if (err != KVT_OK)
			break;
		int64_t slice = kvi_deadline_after(SLICE_MS * KVI_MS);
		kvi_cond_wait(&engine->changed, &engine->lock,
			      slice < deadline_ns ? slice : deadline_ns);
		pthread_mutex_unlock(&engine->lock);
		bool interrupted = kvi_engine_is_interrupted(engine);
		gave_up = interrupted || kvi_clock_now() >= deadline_ns;
		if (interrupted)
			kvi_conn_fail(conn, KVT_E_CANCELLED, 0, "interrupted while connecting");
		else if (gave_up)
			kvi_conn_fail(conn, KVT_E_UNREACHABLE, 0,
				      "the peer did not answer in time");
		pthread_mutex_lock(&engine->lock);
	}
	pthread_mutex_unlock(&engine->lock);
	return err;
}

static bool knows_lanes(const struct kvt_conn *conn)
{
	return conn->peer_lanes != NULL;
}

static bool was_open(const struct kvt_conn *conn)
{
	return conn->was_open;
}

/* A peer may have sent and gone before we look: its messages are in the connection all the same, and it
 * was told so. Not where it is this side that ended the call. */
static bool has_left_something(struct kvt_conn *conn, enum kvt_err err)
{
	kvi_conn_await_end(conn);
	return conn->left_something && err != KVT_E_CANCELLED && err != KVT_E_CLOSED;
}

static enum kvt_err open_lanes(struct kvt_conn *conn, struct kvt_error *error)
{
	const struct kvi_lanes *lanes = conn->peer_lanes;
	for (unsigned i = 0; i < conn->lane_count; i++) {
		struct kvi_link *link = &conn->links[i];
		struct kvi_worker *worker = link->part->worker;
		unsigned rail = i % lanes->rail_count;
		enum kvt_err err = KVT_OK;
		kvi_worker_lock(worker);
		if (link->part->cut)
			err = kvi_conn_check(conn, error);
		else
			err = kvi_link_open(link, lanes->rails[rail].address,
					    lanes->rails[rail].len, NULL, error);
		kvi_worker_unlock(worker);
		if (err != KVT_OK)
			return err;
	}
	return KVT_OK;
}

/* A new connection over fd, known to the control thread. Owns fd from success on. */
static enum kvt_err make_conn(struct kvt_engine *engine, const char *host, uint16_t port, int fd,
			      struct kvt_conn **conn_out, struct kvt_error *error)
{
	pthread_mutex_lock(&engine->lock);
	bool has_room = engine->conn_count < KVI_CONNECTIONS_MAX;
	struct kvt_conn *conn = has_room ? kvi_conn_alloc(engine, false) : NULL;
	if (conn != NULL) {
		engine->conn_count++;
		kvi_list_append(&engine->conns, &conn->node);
	}
	pthread_mutex_unlock(&engine->lock);
	if (!has_room)
		return kvi_fail(error, KVT_E_LIMIT, 0, "an engine has at most %d connections",
				KVI_CONNECTIONS_MAX);
	if (conn == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a connection");
	snprintf(conn->host, sizeof(conn->host), "%s", host);
	conn->port = port;

	enum kvt_err err = kvi_control_adopt(engine->control, conn, fd);
	if (err != KVT_OK) {
		pthread_mutex_lock(&engine->lock);
		engine->conn_count--;
		kvi_list_remove(&conn->node);
		pthread_mutex_unlock(&engine->lock);
		kvi_conn_drop_ref(conn);
		kvi_conn_drop_ref(conn);
		return kvi_fail(error, err, 0, "no memory for a connection");
	}
	*conn_out = conn;
	return KVT_OK;
}

static enum kvt_err open_conn(struct kvt_engine *engine, const char *host, uint16_t port,
			      int64_t deadline_ns, struct kvt_conn **conn_out,
			      struct kvt_error *error)
{
	struct addrinfo *addresses = NULL;
	int fd = -1;
	struct kvt_conn *conn = NULL;
	enum kvt_err err = resolve(engine, host, port, deadline_ns, &addresses, error);
	if (err != KVT_OK)
		return err;
	err = connect_any(engine, addresses, deadline_ns, &fd, error);
	freeaddrinfo(addresses);
	if (err != KVT_OK)
		return err;
	err = make_conn(engine, host, port, fd, &conn, error);
	if (err != KVT_OK) {
		close(fd);
		return err;
	}

	err = await_conn(conn, knows_lanes, deadline_ns, error);
	if (err == KVT_OK)
		err = open_lanes(conn, error);
	if (err == KVT_OK)
		err = await_conn(conn, was_open, deadline_ns, error);
	if (err != KVT_OK) {
		kvi_conn_fail(conn, err, 0, "%s", error->text);
		if (!has_left_something(conn, err)) {
			kvt_conn_close(conn);
			return err;
		}
	}
	kvi_conn_hand_out(conn);
	*conn_out = conn;
	return KVT_OK;
}

enum kvt_err kvt_conn_open(struct kvt_engine *engine, const char *host, uint16_t port,
			   int64_t timeout_ns, struct kvt_conn **conn, struct kvt_error *error)
{
	struct kvt_error own_error = { .code = KVT_OK };
	if (error == NULL)
		error = &own_error;
	if (engine == NULL || host == NULL || conn == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no engine or no host is given");
	if (host[0] == '\0' || strlen(host) >= sizeof(((struct lookup *)NULL)->host))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the host has no name, or one of over 255 bytes");
	if (port == 0 || timeout_ns < 0)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"port %u, timeout %lld ns: allowed are 1 to 65535, and 0 ns and "
				"more",
				port, (long long)timeout_ns);
	enum kvt_err err = kvi_engine_enter(engine, error);
	if (err != KVT_OK)
		return err;
	err = open_conn(engine, host, port,
			kvi_deadline_after(timeout_ns != 0 ? timeout_ns : KVI_CONNECT_NS), conn,
			error);
	kvi_engine_leave(engine);
	return err;
}
