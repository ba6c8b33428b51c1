/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the control thread's loop, the listener, and lane requests.
 */
#define _GNU_SOURCE 1 /* accept4 */
#include "engine/conn/control.h"

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
#include "engine/conn/path.h"
#include "engine/conn/session.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"

enum {
	EVENT_BATCH = 64,
	ACCEPT_BATCH = 16,
	TURN_BATCH = 64, /* of what may be many, a turn */
	MANY = 64,	 /* sessions */
	PORT_TRIES = 16,
};

#define PAUSE_NS (50 * KVI_MS)
#define NAP_NS KVI_MS

static struct kvi_session *get_session(struct kvi_list *node)
{
	return kvi_container_of(node, struct kvi_session, node);
}

static bool watch_control(struct kvi_control *control, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };
	return epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* ---- sessions ---- */

static void end_one(struct kvi_control *control, struct kvi_session *session)
{
	if (session->conn != NULL)
		kvi_conn_fail(session->conn, KVT_E_CLOSED, control->end_errno, "%s",
			      control->end_text);
	else
		kvi_session_end(session);
}

/* A new session. False: it cannot be watched, or there is no memory for its timer. */
static bool admit(struct kvi_control *control, struct kvi_session *session)
{
	kvi_list_append(&control->sessions, &session->node);
	return kvi_timers_set(&control->timers, &session->timer, session->deadline_ns) &&
	       kvi_stream_watch(&session->stream);
}

/* ---- strangers ---- */

/* Room for one more stranger: the oldest is dropped. */
static void make_room(struct kvi_control *control, struct kvi_session *newest)
{
	struct kvi_stranger *surplus = kvi_strangers_pick(&newest->stranger);
	if (surplus == NULL)
		return;
	kvi_count(&control->engine->counters, KVI_COUNT_HANDSHAKES_FAILED, 1);
	kvi_session_end(kvi_container_of(surplus, struct kvi_session, stranger));
}

void kvi_control_believe(struct kvi_session *session)
{
	struct kvi_control *control = session->control;
	if (session->stranger.source == NULL || session->secure->insecure)
		return;
	kvi_strangers_remove(&session->stranger);
	if (kvi_strangers_add(&control->callers, &session->stranger, session->host))
		make_room(control, session);
	else
		kvi_session_end(session);
}

static bool start_listening(struct kvi_control *control)
{
	bool is_watched = true;
	for (unsigned i = 0; i < control->listen_count; i++)
		is_watched &=
			watch_control(control, control->listen_fds[i], &control->listen_fds[i]);
	return is_watched;
}

static void stop_listening(struct kvi_control *control)
{
	for (unsigned i = 0; i < control->listen_count; i++)
		epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, control->listen_fds[i], NULL);
}

/* Out of descriptors: drop the caller with the one in reserve, and do not listen for a while. */
static void pause_listening(struct kvi_control *control, int listen_fd)
{
	kvi_log(KVI_LOG_WARN, "accept-paused", "no descriptor is left for another peer");
	close(control->reserve_fd);
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	control->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	stop_listening(control);
	control->resume_ns = kvi_deadline_after(PAUSE_NS);
}

/* The same for lanes, which wait until there are some again. */
static void pause_lanes(struct kvi_control *control, size_t rail)
{
	kvi_log(KVI_LOG_WARN, "lanes-paused", "no descriptor is left for another lane");
	epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, kvi_listener_get_fd(control->listeners[rail]),
		  NULL);
	control->rails_paused |= 1U << rail;
	if (control->end_text == NULL)
		control->resume_ns = kvi_deadline_after(PAUSE_NS);
}

static void resume_lanes(struct kvi_control *control)
{
	for (size_t i = 0; control->rails_paused >> i != 0; i++)
		if ((control->rails_paused >> i & 1) != 0)
			watch_control(control, kvi_listener_get_fd(control->listeners[i]),
				      &control->listeners[i]);
	control->rails_paused = 0;
}

static void accept_strangers(struct kvi_control *control, int listen_fd)
{
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE)
				pause_listening(control, listen_fd);
			return;
		}
		struct kvi_session *session = kvi_session_open(control, fd, NULL);
		if (session == NULL) {
			close(fd);
			return;
		}
		if (!admit(control, session) ||
		    !kvi_strangers_add(&control->strangers, &session->stranger, session->source)) {
			kvi_session_end(session);
			return;
		}
		make_room(control, session);
		/* A client's hello usually came with its call: served now, it never counts as waiting. */
		kvi_session_on_io(session);
	}
}

/* ---- lane requests ---- */

static void close_listeners(struct kvi_control *control)
{
	for (size_t i = 0; i < control->engine->rail_count; i++) {
		if (control->listeners[i] == NULL)
			continue;
		epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL,
			  kvi_listener_get_fd(control->listeners[i]), NULL);
		kvi_listener_close(control->listeners[i]);
		control->listeners[i] = NULL;
	}
	control->rails_paused = 0;
}

static enum kvt_err open_listener(struct kvi_control *control, unsigned rail,
				  struct kvi_wire_address *address, struct kvt_error *error)
{
	struct kvt_engine *engine = control->engine;
	struct kvi_listener **listener = &control->listeners[rail];
	if (*listener == NULL) {
		enum kvt_err err = kvi_listener_open(engine->rails[rail],
						     engine->settings.lane_ports, listener, error);
		if (err != KVT_OK)
			return err;
		if (!watch_control(control, kvi_listener_get_fd(*listener), listener)) {
			err = kvi_fail(error, KVT_E_LIMIT, errno, "cannot watch for lanes");
			kvi_listener_close(*listener);
			*listener = NULL;
			return err;
		}
	}
	address->len = (uint8_t)kvi_listener_get_address(*listener, address->address);
	return KVT_OK;
}

static enum kvt_err open_listeners(struct kvi_control *control, const struct kvi_path *path,
				   struct kvi_lanes *lanes, struct kvt_error *error)
{
	enum kvt_err err = KVT_OK;
	for (unsigned i = 0; err == KVT_OK && i < path->count; i++)
		err = open_listener(control, path->first + i, &lanes->rails[i], error);
	lanes->rail_count = (uint8_t)path->count;
	return err;
}

enum kvt_err kvi_control_await_lanes(struct kvi_session *session, struct kvi_lanes *lanes,
				     struct kvt_error *error)
{
	struct kvi_control *control = session->control;
	enum kvt_err err = open_listeners(control, session->conn->path, lanes, error);
	if (err == KVT_OK) {
		HASH_ADD_KEYPTR(by_id, control->awaited, session->conn->session_id, KVI_SESSION_LEN,
				session);
		if (session->by_id.tbl == NULL)
			err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a connection");
	}
	if (err == KVT_OK) {
		session->awaits_lanes = true;
		control->listener_users++;
	} else if (control->listener_users == 0) {
		close_listeners(control);
	}
	return err;
}

enum kvt_err kvi_control_await_local(struct kvi_session *session, struct kvi_wire_address *address,
				     struct kvt_error *error)
{
	return open_listener(session->control, session->control->engine->local.first, address,
			     error);
}

void kvi_control_leave_listeners(struct kvi_session *session)
{
	struct kvi_control *control = session->control;
	if (!session->awaits_lanes)
		return;
	session->awaits_lanes = false;
	HASH_DELETE(by_id, control->awaited, session);
	if (--control->listener_users == 0)
		close_listeners(control);
}

/* The link that a lane request names, if its session waits for it and its token is right. */
static struct kvi_link *find_link(struct kvi_control *control,
				  const struct kvi_lane_request *request, size_t rail)
{
	struct kvi_lane_hello hello;
	uint8_t token[KVI_TOKEN_LEN];
	size_t len;
	const uint8_t *data = kvi_lane_request_get_data(request, &len);
	/* Providers may pad the data; ours has a fixed length. */
	if (len < KVI_LANE_HELLO_LEN ||
	    kvi_lane_hello_decode(data, KVI_LANE_HELLO_LEN, &hello) != KVT_OK)
		return NULL;
	struct kvi_session *session = NULL;
	HASH_FIND(by_id, control->awaited, hello.session, KVI_SESSION_LEN, session);
	if (session == NULL || session->state != KVI_SESSION_LANES)
		return NULL;
	struct kvt_conn *conn = session->conn;
	kvi_secrets_get_token(conn->secrets, hello.index, token);
	if (sodium_memcmp(token, hello.token, KVI_TOKEN_LEN) != 0 ||
	    hello.index >= conn->lane_count)
		return NULL;
	/* From who has the token a lane on another path says that it has left the one on trial. */
	kvi_path_follow(conn, rail);
	struct kvi_link *link = &conn->links[hello.index];
	return link->packets == NULL && link->rail == rail ? link : NULL;
}

static void take_lanes(struct kvi_control *control, size_t rail)
{
	struct kvi_lane_request *request;
	unsigned budget = TURN_BATCH;
	control->rails_left &= ~(1U << rail);
	while (control->listeners[rail] != NULL &&
	       (request = kvi_listener_take(control->listeners[rail])) != NULL) {
		/* Who stops before there is none has to look again by himself. */
		if (--budget == 0)
			control->rails_left |= 1U << rail;
		struct kvi_link *link = find_link(control, request, rail);
		if (link == NULL) {
			kvi_log(KVI_LOG_INFO, "lane-refused", "a lane that nobody waits for");
			kvi_lane_request_reject(request);
			if (budget == 0)
				return;
			continue;
		}
		struct kvt_error error;
		struct kvi_worker *worker = link->shard->worker;
		kvi_worker_lock(worker);
		enum kvt_err err = kvi_link_open(link, NULL, 0, request, &error);
		kvi_worker_unlock(worker);
		if (err != KVT_OK && !kvi_trial_fail(link->conn, error.provider_errno, error.text))
			kvi_conn_fail(link->conn, err, error.provider_errno, "%s", error.text);
		if (budget == 0)
			return;
	}
	if (control->listeners[rail] != NULL && kvi_listener_lacks_fds(control->listeners[rail]))
		pause_lanes(control, rail);
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
		session->conn->session = session;
		if (!admit(control, session))
			kvi_conn_fail(session->conn, KVT_E_LIMIT, errno,
				      "cannot watch the control channel");
		else if (control->end_text != NULL)
			end_one(control, session);
		kvi_session_on_io(session);
	}
}

/* True: it was a heartbeat and nothing else. */
static bool on_event(struct kvi_control *control, const struct epoll_event *event)
{
	void *what = event->data.ptr;
	if (what == &control->wake) {
		kvi_wake_clear(&control->wake);
	} else if (what >= (void *)control->listen_fds &&
		   what < (void *)(control->listen_fds + KVI_RAILS_MAX)) {
		accept_strangers(control, *(int *)what);
	} else if (what >= (void *)control->listeners &&
		   what < (void *)(control->listeners + KVI_ENGINE_RAILS_MAX)) {
		take_lanes(control, (size_t)((struct kvi_listener **)what - control->listeners));
	} else {
		bool was_at_rest = kvi_session_is_at_rest(what);
		kvi_session_on_io(what);
		return was_at_rest && kvi_session_is_at_rest(what);
	}
	return false;
}

/* Look at the connections that notes name. True: some are left for the next turn, as below. */
static bool take_notes(struct kvi_control *control)
{
	struct kvi_mail *mail = NULL;
	for (int i = 0; i < TURN_BATCH && (mail = kvi_mailbox_take(&control->notes)) != NULL; i++) {
		struct kvt_conn *conn = kvi_container_of(mail, struct kvt_conn, note);
		/* An exchange, before the look: as the wake does it (base/wake.c). */
		atomic_exchange(&conn->is_noted, false);
		if (conn->session != NULL)
			kvi_session_check(conn->session);
		kvi_ref_drop(&conn->ref);
	}
	return mail != NULL;
}

static bool pass_timers(struct kvi_control *control)
{
	int64_t now_ns = kvi_clock_now();
	if (now_ns >= control->resume_ns) {
		start_listening(control);
		resume_lanes(control);
		control->resume_ns = KVI_NEVER;
	}
	for (int i = 0; i < TURN_BATCH && kvi_timers_get_due(&control->timers) <= now_ns; i++)
		kvi_session_on_time(kvi_container_of(kvi_timers_get_first(&control->timers),
						     struct kvi_session, timer));
	return kvi_timers_get_due(&control->timers) <= now_ns;
}

int64_t kvi_control_get_beat(const struct kvi_control *control, int64_t now_ns)
{
	int64_t interval_ns = control->engine->settings.heartbeat_ns;
	return now_ns + interval_ns - (now_ns - control->opened_ns) % interval_ns;
}

/* When the next heartbeat is due; KVI_NEVER when nobody is to have one. */
static int64_t get_beat_due(const struct kvi_control *control)
{
	struct kvi_list *node = kvi_list_get_first(&control->beats);
	return node == NULL ? KVI_NEVER
			    : kvi_container_of(node, struct kvi_session, beat_node)->beat_ns;
}

static bool send_beats(struct kvi_control *control)
{
	int64_t now_ns = kvi_clock_now();
	for (int i = 0; i < TURN_BATCH && get_beat_due(control) <= now_ns; i++)
		kvi_session_beat(kvi_container_of(kvi_list_get_first(&control->beats),
						  struct kvi_session, beat_node),
				 now_ns);
	return get_beat_due(control) <= now_ns;
}

static bool take_lanes_left(struct kvi_control *control)
{
	unsigned left = control->rails_left;
	for (size_t i = 0; left >> i != 0; i++) {
		if ((left >> i & 1) != 0)
			take_lanes(control, i);
	}
	return control->rails_left != 0;
}

/* Everything that is not an event. Returns when to look again. */
static int64_t take_turn(struct kvi_control *control)
{
	struct kvi_list *node;
	bool is_left = take_notes(control);
	is_left |= pass_timers(control);
	is_left |= send_beats(control);
	is_left |= take_lanes_left(control);
	while ((node = kvi_list_take_first(&control->ended)) != NULL)
		kvi_session_free(get_session(node));
	if (is_left)
		return 0;
	int64_t next_ns = kvi_timers_get_due(&control->timers);
	int64_t beat_ns = get_beat_due(control);
	if (beat_ns < next_ns)
		next_ns = beat_ns;
	return control->resume_ns < next_ns ? control->resume_ns : next_ns;
}

/* From now on everything ends, and nobody is let in. */
static void end_all(struct kvi_control *control, int system_errno, const char *text)
{
	if (control->end_text != NULL)
		return;
	control->end_text = text;
	control->end_errno = system_errno;
	if (!control->fds_lost)
		stop_listening(control);
	control->resume_ns = KVI_NEVER;
	kvi_list_for_each (node, next_node, &control->sessions)
		end_one(control, get_session(node));
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
		end_all(control, EBADF, KVI_FDS_LOST_TEXT);
}

static void *run_control(void *arg)
{
	struct kvi_control *control = arg;
	for (;;) {
		check_fds(control);
		take_adopted(control);
		bool stopping = atomic_load(&control->stopping);
		if (stopping)
			end_all(control, 0, "the engine was closed on this side");
		int64_t next_ns = take_turn(control);
		if (stopping && kvi_list_is_empty(&control->sessions) &&
		    kvi_list_is_empty(&control->ended))
			return NULL;
		if (control->fds_lost) {
			kvi_thread_rest(KVI_NAP_NS);
			continue;
		}

		struct epoll_event events[EVENT_BATCH];
		int count = epoll_wait(control->epoll_fd, events, EVENT_BATCH,
				       kvi_deadline_get_ms(next_ns, KVI_SLEEP_MAX_MS));
		bool were_beats = count > 0 && count < EVENT_BATCH && next_ns > 0;
		for (int i = 0; i < count; i++)
			were_beats &= on_event(control, &events[i]);
		/* Those of many peers come one by one, and to wake for each costs more than to take it. */
		if (were_beats && control->timers.count >= MANY)
			kvi_thread_rest(NAP_NS);
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
	kvi_wake(&control->wake);
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
	control->listen_fds[control->listen_count++] = fd;
out_address:
	freeaddrinfo(address);
	return err;
}

uint16_t kvi_control_get_port(const struct kvi_control *control)
{
	struct sockaddr_storage address = { 0 };
	socklen_t len = sizeof(address);
	getsockname(control->listen_fds[0], (struct sockaddr *)&address, &len);
	return address.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&address)->sin_port)
					    : ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
}

static void close_listen_fds(struct kvi_control *control)
{
	while (control->listen_count > 0)
		close(control->listen_fds[--control->listen_count]);
}

/* A port that is free at the first host may be taken at another. */
static enum kvt_err listen_on_all(struct kvi_control *control, uint16_t given_port,
				  struct kvt_error *error)
{
	const struct kvi_address *address = &control->engine->address;
	enum kvt_err err = KVT_E_LIMIT;
	for (int tries = 0; err == KVT_E_LIMIT && tries < PORT_TRIES; tries++) {
		uint16_t port = given_port;
		err = KVT_OK;
		for (unsigned i = 0; err == KVT_OK && i < address->host_count; i++) {
			err = listen_on(control, address->hosts[i], port, error);
			if (err == KVT_OK)
				port = kvi_control_get_port(control);
		}
		if (err != KVT_OK)
			close_listen_fds(control);
		if (given_port != 0 || address->host_count == 1)
			break;
	}
	return err;
}

struct kvi_control *kvi_control_alloc(struct kvt_engine *engine)
{
	struct kvi_control *control = kvi_alloc(sizeof(*control));
	if (control == NULL)
		return NULL;
	control->engine = engine;
	control->resume_ns = KVI_NEVER;
	kvi_list_init(&control->sessions);
	kvi_list_init(&control->ended);
	kvi_list_init(&control->beats);
	kvi_strangers_init(&control->strangers, KVI_STRANGERS_MAX, KVI_STRANGERS_PER_SOURCE_MAX);
	kvi_strangers_init(&control->callers, KVI_CALLERS_MAX, KVI_CALLERS_PER_SOURCE_MAX);
	kvi_mailbox_init(&control->notes);
	kvi_list_init(&control->adopted);
	atomic_init(&control->wake.fd, -1);
	pthread_mutex_init(&control->lock, NULL);
	return control;
}

enum kvt_err kvi_control_start(struct kvi_control *control, uint16_t port, struct kvt_error *error)
{
	enum kvt_err err = kvi_wake_open(&control->wake);
	if (err != KVT_OK)
		return kvi_fail(error, err, errno, "no descriptor for the control thread");
	control->opened_ns = kvi_clock_now();
	control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	control->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (control->epoll_fd < 0 || control->reserve_fd < 0) {
		err = kvi_fail(error, KVT_E_LIMIT, errno, "no descriptor for the control thread");
		goto err_close_fds;
	}
	err = listen_on_all(control, port, error);
	if (err != KVT_OK)
		goto err_close_fds;
	if (!watch_control(control, control->wake.fd, &control->wake) ||
	    !start_listening(control)) {
		err = kvi_fail(error, KVT_E_LIMIT, errno, "cannot watch the listener");
		goto err_close_listener;
	}
	err = kvi_thread_start(&control->thread, "kvt-control", run_control, control);
	if (err != KVT_OK) {
		kvi_fail(error, err, 0, "cannot start the control thread");
		goto err_close_listener;
	}
	control->is_started = true;
	return KVT_OK;

err_close_listener:
	close_listen_fds(control);
err_close_fds:
	if (control->epoll_fd >= 0)
		close(control->epoll_fd);
	if (control->reserve_fd >= 0)
		close(control->reserve_fd);
	kvi_wake_close(&control->wake);
	return err;
}

void kvi_control_mute(struct kvi_control *control)
{
	kvi_wake_mute(&control->wake);
}

void kvi_control_stop(struct kvi_control *control)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &control->wake };
	if (!control->is_started)
		return;
	if (!kvi_wake_is_watched(&control->wake, control->epoll_fd, event))
		kvi_engine_lose_fds(control->engine);
	else
		kvi_wake_unmute(&control->wake);
	atomic_store(&control->stopping, true);
	kvi_wake(&control->wake);
	pthread_join(control->thread, NULL);
	struct kvi_mail *mail;
	while ((mail = kvi_mailbox_take(&control->notes)) != NULL)
		kvi_ref_drop(&kvi_container_of(mail, struct kvt_conn, note)->ref);
	kvi_timers_free(&control->timers);
	if (!control->fds_lost) {
		close_listen_fds(control);
		close(control->epoll_fd);
		close(control->reserve_fd);
	}
	kvi_wake_close(&control->wake);
}

void kvi_control_free(struct kvi_control *control)
{
	if (control == NULL)
		return;
	pthread_mutex_destroy(&control->lock);
	kvi_free(control);
}
