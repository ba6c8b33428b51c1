/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the control thread's loop, the listener, and lane requests.
 */
#define _GNU_SOURCE 1 /* accept4 */
#include "engine/control.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "engine/conn.h"
#include "engine/engine.h"
#include "engine/session.h"

enum {
	EVENT_BATCH = 64,
	ACCEPT_BATCH = 16,
	PENDING_MAX = 128,
	PENDING_PER_SOURCE_MAX = 16,
};

#define PAUSE_NS (50 * KVI_MS)

static struct kvi_session *get_session(struct kvi_list *node)
{
	return kvi_container_of(node, struct kvi_session, node);
}

static bool watch(struct kvi_control *control, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };
	return epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void kvi_control_wake(struct kvi_control *control)
{
	kvi_wake(&control->wake);
}

/* ---- strangers ---- */

/* Room for one more stranger from host: who has waited longest without a word goes first. */
static void make_room(struct kvi_control *control, const char *host)
{
	struct kvi_session *oldest = NULL, *oldest_of_host = NULL;
	unsigned of_host = 0;
	kvi_list_for_each (node, next_node, &control->sessions) {
		struct kvi_session *session = get_session(node);
		if (session->conn != NULL || session->state == KVI_SESSION_ENDED)
			continue;
		if (oldest == NULL)
			oldest = session;
		if (strcmp(session->host, host) != 0)
			continue;
		if (oldest_of_host == NULL)
			oldest_of_host = session;
		of_host++;
	}
	if (of_host > PENDING_PER_SOURCE_MAX)
		oldest = oldest_of_host;
	else if (control->pending <= PENDING_MAX)
		return;
	kvi_count(&control->engine->counters, KVI_COUNT_HANDSHAKES_FAILED, 1);
	kvi_session_end(oldest);
}

/* Out of descriptors: drop the caller with the one in reserve, and do not listen for a while. */
static void pause_listening(struct kvi_control *control)
{
	kvi_log(KVI_LOG_WARN, "accept-paused", "no descriptor is left for another peer");
	close(control->reserve_fd);
	int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	control->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, control->listen_fd, NULL);
	control->resume_ns = kvi_deadline_after(PAUSE_NS);
}

static void accept_strangers(struct kvi_control *control)
{
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE)
				pause_listening(control);
			return;
		}
		struct kvi_session *session = kvi_session_open(control, fd, NULL);
		if (session == NULL || !kvi_stream_watch(&session->stream)) {
			kvi_free(session);
			close(fd);
			return;
		}
		kvi_list_append(&control->sessions, &session->node);
		control->pending++;
		make_room(control, session->host);
		/* A client's hello usually came with its call: served now, it never counts as waiting. */
		if (session->state != KVI_SESSION_ENDED)
			kvi_session_on_io(session);
	}
}

/* ---- lane requests ---- */

enum kvt_err kvi_control_use_listeners(struct kvi_control *control, struct kvi_lanes *lanes,
				       struct kvt_error *error)
{
	struct kvt_engine *engine = control->engine;
	control->listener_users++;
	for (size_t i = 0; i < engine->rail_count; i++) {
		struct kvi_listener **listener = &control->listeners[i];
		if (*listener == NULL) {
			enum kvt_err err = kvi_listener_open(
				engine->rails[i], engine->settings.lane_ports, listener, error);
			if (err == KVT_OK &&
			    !watch(control, kvi_listener_get_fd(*listener), listener))
				err = kvi_fail(error, KVT_E_LIMIT, errno, "cannot watch for lanes");
			if (err != KVT_OK) {
				kvi_control_leave_listeners(control);
				return err;
			}
		}
		lanes->rails[i].len =
			(uint8_t)kvi_listener_get_address(*listener, lanes->rails[i].address);
	}
	lanes->rail_count = (uint8_t)engine->rail_count;
	return KVT_OK;
}

void kvi_control_leave_listeners(struct kvi_control *control)
{
	if (--control->listener_users > 0)
		return;
	for (size_t i = 0; i < control->engine->rail_count; i++) {
		if (control->listeners[i] == NULL)
			continue;
		epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL,
			  kvi_listener_get_fd(control->listeners[i]), NULL);
		kvi_listener_close(control->listeners[i]);
		control->listeners[i] = NULL;
	}
}

/* The link that a lane request names, if its session waits for it and its token is right. */
static struct kvi_link *find_link(struct kvi_control *control,
				  const struct kvi_lane_request *request, size_t rail)
{
	struct kvi_lane_hello hello;
	size_t len;
	const uint8_t *data = kvi_lane_request_get_data(request, &len);
	/* Providers may pad the data; ours has a fixed length. */
	if (len < KVI_LANE_HELLO_LEN ||
	    kvi_lane_hello_decode(data, KVI_LANE_HELLO_LEN, &hello) != KVT_OK)
		return NULL;
	kvi_list_for_each (node, next_node, &control->sessions) {
		struct kvi_session *session = get_session(node);
		struct kvt_conn *conn = session->conn;
		if (session->state != KVI_SESSION_LANES || !session->uses_listeners ||
		    sodium_memcmp(conn->session_id, hello.session, KVI_SESSION_LEN) != 0)
			continue;
		if (sodium_memcmp(conn->token, hello.token, KVI_TOKEN_LEN) != 0 ||
		    hello.index >= conn->lane_count)
			return NULL;
		struct kvi_link *link = &conn->links[hello.index];
		return link->packets == NULL && link->rail == rail ? link : NULL;
	}
	return NULL;
}

static void take_lanes(struct kvi_control *control, size_t rail)
{
	struct kvi_lane_request *request;
	while (control->listeners[rail] != NULL &&
	       (request = kvi_listener_take(control->listeners[rail])) != NULL) {
		struct kvi_link *link = find_link(control, request, rail);
		if (link == NULL) {
			kvi_log(KVI_LOG_INFO, "lane-refused", "a lane that nobody waits for");
			kvi_lane_request_reject(request);
			continue;
		}
		struct kvt_error error;
		struct kvi_worker *worker = link->part->worker;
		kvi_worker_lock(worker);
		enum kvt_err err = kvi_link_open(link, NULL, 0, request, &error);
		kvi_worker_unlock(worker);
		if (err != KVT_OK)
			kvi_conn_fail(link->conn, err, error.provider_errno, "%s", error.text);
	}
}

/* ---- the loop ---- */

static void take_adopted(struct kvi_control *control)
{
	struct kvi_list adopted;
	kvi_list_init(&adopted);
	pthread_mutex_lock(&control->lock);
	kvi_list_move_all(&adopted, &control->adopted);
	pthread_mutex_unlock(&control->lock);
	struct kvi_list *node;
	while ((node = kvi_list_take_first(&adopted)) != NULL) {
		struct kvi_session *session = get_session(node);
		kvi_list_append(&control->sessions, node);
		if (!kvi_stream_watch(&session->stream))
			kvi_conn_fail(session->conn, KVT_E_LIMIT, errno,
				      "cannot watch the control channel");
		else
			kvi_session_on_io(session);
	}
}

static void on_event(struct kvi_control *control, const struct epoll_event *event)
{
	void *what = event->data.ptr;
	if (what == &control->wake) {
		kvi_wake_clear(&control->wake);
	} else if (what == &control->listen_fd) {
		accept_strangers(control);
	} else if (what >= (void *)control->listeners &&
		   what < (void *)(control->listeners + KVI_RAILS_MAX)) {
		take_lanes(control, (size_t)((struct kvi_listener **)what - control->listeners));
	} else {
		struct kvi_session *session = what;
		if (session->state != KVI_SESSION_ENDED)
			kvi_session_on_io(session);
	}
}

/* Look at every session; free those that have ended. Returns when to look again. */
static int64_t check_sessions(struct kvi_control *control)
{
	int64_t now = kvi_clock_now();
	int64_t next = control->resume_ns;
	if (now >= control->resume_ns) {
		watch(control, control->listen_fd, &control->listen_fd);
		control->resume_ns = KVI_NEVER;
		next = KVI_NEVER;
	}
	kvi_list_for_each (node, next_node, &control->sessions) {
		struct kvi_session *session = get_session(node);
		int64_t due = kvi_session_check(session, now);
		if (due < next)
			next = due;
		if (session->state == KVI_SESSION_ENDED)
			kvi_session_free(session);
	}
	return next;
}

static void close_all(struct kvi_control *control, int system_errno, const char *text)
{
	kvi_list_for_each (node, next_node, &control->sessions) {
		struct kvi_session *session = get_session(node);
		if (session->conn != NULL)
			kvi_conn_fail(session->conn, KVT_E_CLOSED, system_errno, "%s", text);
		else
			kvi_session_end(session);
	}
}

/* Before anything is written to a socket: the descriptors may have been closed by somebody else. */
static void check_fds(struct kvi_control *control)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &control->wake };
	if (!control->fds_lost && !kvi_wake_is_watched(&control->wake, control->epoll_fd, event)) {
		control->fds_lost = true;
		control->resume_ns = KVI_NEVER;
		kvi_wake_forget(&control->wake);
		kvi_engine_lose_fds(control->engine);
		kvi_list_for_each (node, next_node, &control->sessions)
			kvi_stream_forget(&get_session(node)->stream);
	}
	if (atomic_load(&control->engine->fds_lost))
		close_all(control, EBADF, KVI_FDS_LOST_TEXT);
}

static void *run_thread(void *arg)
{
	struct kvi_control *control = arg;
	bool closing = false;
	for (;;) {
		check_fds(control);
		take_adopted(control);
		if (atomic_load(&control->stopping)) {
			if (!closing && !control->fds_lost)
				epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, control->listen_fd,
					  NULL);
			closing = true;
			control->resume_ns = KVI_NEVER;
			close_all(control, 0, "the engine was closed on this side");
		}
		int64_t next = check_sessions(control);
		if (closing && kvi_list_is_empty(&control->sessions))
			return NULL;
		if (control->fds_lost) {
			kvi_thread_rest(KVI_NAP_NS);
			continue;
		}

		struct epoll_event events[EVENT_BATCH];
		int count = epoll_wait(control->epoll_fd, events, EVENT_BATCH,
				       kvi_deadline_get_ms(next, KVI_SLEEP_MAX_MS));
		for (int i = 0; i < count; i++)
			on_event(control, &events[i]);
	}
}

enum kvt_err kvi_control_adopt(struct kvi_control *control, struct kvt_conn *conn, int fd)
{
	struct kvi_session *session = kvi_session_open(control, fd, conn);
	if (session == NULL)
		return KVT_E_NO_MEMORY;
	pthread_mutex_lock(&control->lock);
	kvi_list_append(&control->adopted, &session->node);
	pthread_mutex_unlock(&control->lock);
	kvi_control_wake(control);
	return KVT_OK;
}

/* ---- open and stop ---- */

static enum kvt_err listen_on(struct kvi_control *control, const char *host, uint16_t port,
			      struct kvt_error *error)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				  .ai_socktype = SOCK_STREAM };
	struct addrinfo *address;
	char service[8];
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &address) != 0)
		return kvi_fail(error, KVT_E_UNSUPPORTED, 0,
				"the interface has no IP address to listen on");
	enum kvt_err err = KVT_OK;
	int one = 1;
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		err = kvi_fail(error, KVT_E_LIMIT, errno, "no socket for the listener");
		goto out_address;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
		/* A port in use is the machine's doing; another address would be the caller's. */
		enum kvt_err code = errno == EADDRINUSE ? KVT_E_LIMIT : KVT_E_INVALID;
		err = kvi_fail(error, code, errno, "cannot listen on %s port %u: %s", host, port,
			       strerror(errno));
		close(fd);
		goto out_address;
	}
	control->listen_fd = fd;
out_address:
	freeaddrinfo(address);
	return err;
}

uint16_t kvi_control_get_port(const struct kvi_control *control)
{
	struct sockaddr_storage address = { 0 };
	socklen_t len = sizeof(address);
	getsockname(control->listen_fd, (struct sockaddr *)&address, &len);
	return address.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&address)->sin_port)
					    : ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
}

enum kvt_err kvi_control_open(struct kvt_engine *engine, const char *host, uint16_t port,
			      struct kvi_control **control_out, struct kvt_error *error)
{
	struct kvi_control *control = kvi_alloc(sizeof(*control));
	if (control == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for the control thread");
	control->engine = engine;
	control->resume_ns = KVI_NEVER;
	kvi_list_init(&control->sessions);
	kvi_list_init(&control->adopted);
	pthread_mutex_init(&control->lock, NULL);

	enum kvt_err err = kvi_wake_open(&control->wake);
	if (err != KVT_OK) {
		kvi_fail(error, err, errno, "no descriptor for the control thread");
		goto err_free;
	}
	control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	control->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (control->epoll_fd < 0 || control->reserve_fd < 0) {
		err = kvi_fail(error, KVT_E_LIMIT, errno, "no descriptor for the control thread");
		goto err_close_fds;
	}
	err = listen_on(control, host, port, error);
	if (err != KVT_OK)
		goto err_close_fds;
	if (!watch(control, control->wake.fd, &control->wake) ||
	    !watch(control, control->listen_fd, &control->listen_fd)) {
		err = kvi_fail(error, KVT_E_LIMIT, errno, "cannot watch the listener");
		goto err_close_listener;
	}
	*control_out = control; /* where the thread's connections look for it */
	err = kvi_thread_start(&control->thread, "kvt-control", run_thread, control);
	if (err != KVT_OK) {
		*control_out = NULL;
		kvi_fail(error, err, 0, "cannot start the control thread");
		goto err_close_listener;
	}
	return KVT_OK;

err_close_listener:
	close(control->listen_fd);
err_close_fds:
	if (control->epoll_fd >= 0)
		close(control->epoll_fd);
	if (control->reserve_fd >= 0)
		close(control->reserve_fd);
	kvi_wake_close(&control->wake);
err_free:
	kvi_free(control);
	return err;
}

void kvi_control_stop(struct kvi_control *control)
{
	atomic_store(&control->stopping, true);
	kvi_control_wake(control);
	pthread_join(control->thread, NULL);
	if (!control->fds_lost) {
		close(control->listen_fd);
		close(control->epoll_fd);
		close(control->reserve_fd);
	}
	kvi_wake_close(&control->wake);
	pthread_mutex_destroy(&control->lock);
	kvi_free(control);
}
