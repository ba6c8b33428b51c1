/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target.c - from a host and a port to a connected socket. It says nothing on the socket.
 */
#define _GNU_SOURCE 1 /* getaddrinfo_a */
#include "engine/conn/target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/engine.h"
#include "fabric/fabric.h"

enum {
	HOST_LEN = 256,
};

#define ATTEMPT_DELAY_NS (250 * KVI_MS)
#define LOOKUP_NS (10 * KVI_MS) /* nobody wakes us when a name is resolved */

enum attempt_state { UNTRIED, PENDING, FAILED };

struct kvi_attempt {
	const struct addrinfo *address;
	enum attempt_state state;
	int fd;			/* while PENDING */
	struct kvt_error cause; /* once FAILED */
};

/* ---- what the host is ---- */

/* What is called, for a human. */
static const char *get_name(const struct kvi_target *target)
{
	return target->host != NULL ? target->host : "an engine's address,";
}

static bool is_ipv6(const char *text, size_t len)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr bytes;
	const char *zone = memchr(text, '%', len);
	if (zone != NULL)
		len = (size_t)(zone - text);
	if (len >= sizeof(address))
		return false;
	memcpy(address, text, len);
	address[len] = '\0';
	return inet_pton(AF_INET6, address, &bytes) == 1;
}

/* A port at the end of the host, behind a colon; NULL: there is none. */
static const char *find_port(const char *host)
{
	const char *colon = strrchr(host, ':');
	if (colon == NULL || colon == host || colon[1] == '\0' ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return NULL;
	return colon + 1;
}

/*
 * The name to look up: the host without the brackets of "[::1]" and without a port that is the one
 * given, too. What cannot be a host at all is refused here, with what to pass in its place.
 */
static enum kvt_err read_host(const struct kvi_target *target, char name[HOST_LEN],
			      struct kvt_error *error)
{
	const char *host = target->host;
	size_t len = strlen(host);
	if (len == 0 || len >= HOST_LEN)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the host has no name, or one of over 255 bytes");
	const char *port = is_ipv6(host, len) ? NULL : find_port(host);
	if (port != NULL)
		len = (size_t)(port - 1 - host);
	if (host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
		if (!is_ipv6(host, len))
			return kvi_fail(error, KVT_E_INVALID, 0,
					"host \"%s\": there is no IPv6 address between the "
					"brackets",
					target->host);
	} else if (memchr(host, ':', len) != NULL && !is_ipv6(host, len)) {
		return kvi_fail(error, KVT_E_INVALID, 0,
				"host \"%s\" is no IP address and no name: pass the one or the "
				"other alone, and the port as port",
				target->host);
	}
	if (port != NULL && strtoul(port, NULL, 10) != target->port)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"host \"%s\" has a port in it, and the port given is %u: pass "
				"\"%.*s\", and the port as port",
				target->host, target->port, (int)len, host);
	memcpy(name, host, len);
	name[len] = '\0';
	const char *zone = memchr(host, ':', len) != NULL ? strchr(name, '%') : NULL;
	if (zone != NULL && if_nametoindex(zone + 1) == 0 &&
	    strspn(zone + 1, "0123456789") != strlen(zone + 1))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"host \"%s\": there is no interface \"%s\" on this host",
				target->host, zone + 1);
	return KVT_OK;
}

/* ---- resolving ---- */

/* The hosts of an engine's address, which are IP addresses: nobody is asked. */
static enum kvt_err read_hosts(struct kvi_target *target, struct kvt_error *error)
{
	const struct kvi_address *address = target->engine_address;
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	char service[8];
	snprintf(service, sizeof(service), "%u", address->port);
	for (unsigned i = 0; i < address->host_count; i++) {
		/* The zone of another host may be none of ours. */
		if (getaddrinfo(address->hosts[i], service, &hints,
				&target->addresses[target->list_count]) == 0)
			target->list_count++;
	}
	if (target->list_count > 0)
		return KVT_OK;
	return kvi_fail(error, KVT_E_INVALID, 0,
			"no host of the address is an IP address that this host can reach: the "
			"first is \"%s\"",
			address->hosts[0]);
}

/* One look-up. On the heap, because a look-up that cannot be cancelled goes on without us. */
struct kvi_lookup {
	struct gaicb request;
	struct addrinfo hints;
	char host[HOST_LEN];
	char service[8];
};

static enum kvt_err fail_lookup(const struct kvi_target *target, int status,
				struct kvt_error *error)
{
	return kvi_fail(error, KVT_E_UNREACHABLE, status == EAI_SYSTEM ? errno : 0,
			"cannot resolve %s: %s", target->host, gai_strerror(status));
}

/* A look-up that the resolver's thread still uses is given up to it. */
static void drop_lookup(struct kvi_target *target)
{
	struct kvi_lookup *lookup = target->lookup;
	target->lookup = NULL;
	if (lookup == NULL || (gai_error(&lookup->request) == EAI_INPROGRESS &&
			       gai_cancel(&lookup->request) == EAI_NOTCANCELED))
		return;
	freeaddrinfo(lookup->request.ar_result);
	kvi_free(lookup);
}

/* A number stands for itself; a name is asked for. */
static enum kvt_err begin_lookup(struct kvi_target *target, struct kvt_error *error)
{
	struct kvi_lookup *lookup = kvi_alloc(sizeof(*lookup));
	if (lookup == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory to resolve %s", target->host);
	enum kvt_err err = read_host(target, lookup->host, error);
	if (err != KVT_OK)
		goto out_free;
	snprintf(lookup->service, sizeof(lookup->service), "%u", target->port);
	lookup->hints.ai_socktype = SOCK_STREAM;
	lookup->hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
	if (getaddrinfo(lookup->host, lookup->service, &lookup->hints, &target->addresses[0]) ==
	    0) {
		target->list_count = 1;
		goto out_free;
	}

	lookup->hints.ai_flags = AI_NUMERICSERV;
	lookup->request.ar_name = lookup->host;
	lookup->request.ar_service = lookup->service;
	lookup->request.ar_request = &lookup->hints;
	struct gaicb *requests[] = { &lookup->request };
	int status = getaddrinfo_a(GAI_NOWAIT, requests, 1, NULL);
	if (status == 0) {
		target->lookup = lookup;
		return KVT_E_AGAIN;
	}
	err = fail_lookup(target, status, error);
out_free:
	kvi_free(lookup);
	return err;
}

static enum kvt_err take_lookup(struct kvi_target *target, struct kvt_error *error)
{
	struct gaicb *request = &target->lookup->request;
	int status = gai_error(request);
	if (status == EAI_INPROGRESS && kvi_clock_now() < target->deadline_ns)
		return KVT_E_AGAIN;
	enum kvt_err err = KVT_OK;
	if (status == EAI_INPROGRESS) {
		err = kvi_fail(error, KVT_E_UNREACHABLE, 0,
			       "cannot resolve %s in time: no name server has answered",
			       target->host);
	} else if (status != 0) {
		err = fail_lookup(target, status, error);
	} else {
		target->addresses[0] = request->ar_result;
		target->list_count = 1;
		request->ar_result = NULL;
	}
	drop_lookup(target);
	return err;
}

/* The next address from *at on that is of the family, or is not. */
static const struct addrinfo *take_address(const struct addrinfo **at, int family, bool is_of_it)
{
	while (*at != NULL && ((*at)->ai_family == family) != is_of_it)
		*at = (*at)->ai_next;
	const struct addrinfo *taken = *at;
	if (taken != NULL)
		*at = taken->ai_next;
	return taken;
}

/* The resolver's order, but the families take turns: one of them may lead nowhere. An engine's address has an order
 * of its own. */
static void order_attempts(struct kvi_target *target)
{
	size_t count = 0;
	if (target->engine_address != NULL) {
		for (size_t i = 0; i < target->list_count; i++)
			target->attempts[count++] =
				(struct kvi_attempt){ .address = target->addresses[i], .fd = -1 };
		return;
	}
	const struct addrinfo *next[] = { target->addresses[0], target->addresses[0] };
	int family = target->addresses[0]->ai_family;
	for (bool is_first = true; count < target->count; is_first = !is_first) {
		const struct addrinfo *address =
			take_address(&next[is_first ? 0 : 1], family, is_first);
		if (address != NULL)
			target->attempts[count++] =
				(struct kvi_attempt){ .address = address, .fd = -1 };
	}
}

enum kvt_err kvi_target_check(struct kvi_target *target, int64_t timeout_ns,
			      struct kvt_error *error)
{
	int64_t wait_ns;
	if (target->port == 0 || !kvi_timeout_read(timeout_ns, KVI_CONNECT_NS, &wait_ns))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"port %u, timeout_ns %lld: allowed are 1 to 65535, "
				"and " KVI_TIMEOUT_RULE,
				target->port, (long long)timeout_ns);
	target->deadline_ns = kvi_deadline_after(wait_ns);
	return KVT_OK;
}

enum kvt_err kvi_target_read_address(const void *bytes, size_t len, struct kvi_address *address,
				     struct kvt_error *error)
{
	enum kvt_err err = kvi_address_decode(bytes, len, address);
	if (err == KVT_E_VERSION)
		return kvi_fail(error, err, 0, "the address is one of a later version of KVTrans");
	if (err != KVT_OK)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"%zu bytes that are no address of an engine, or not a whole one",
				len);
	return KVT_OK;
}

enum kvt_err kvi_target_resolve(struct kvi_target *target, struct kvt_error *error)
{
	enum kvt_err err = target->engine_address != NULL ? read_hosts(target, error)
			   : target->lookup != NULL	  ? take_lookup(target, error)
							  : begin_lookup(target, error);
	if (err != KVT_OK)
		return err;
	if (target->engine_address != NULL)
		target->count = target->list_count;
	for (const struct addrinfo *at = target->addresses[0];
	     target->engine_address == NULL && at != NULL; at = at->ai_next)
		target->count++;
	target->attempts = kvi_alloc_array(target->count, sizeof(*target->attempts));
	target->pollfds = kvi_alloc_array(target->count, sizeof(*target->pollfds));
	if (target->attempts == NULL || target->pollfds == NULL) {
		target->count = 0;
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for the addresses of %s",
				get_name(target));
	}
	order_attempts(target);
	return KVT_OK;
}

void kvi_target_close_socket(const struct kvi_target *target, int fd)
{
	/* It may be another's file. */
	if (kvi_engine_has_lost_fds(target->engine))
		return;
	/* A forked child may have it, too: then close() alone neither ends the watch, which names what is freed
	 * before long, nor tells the peer. */
	if (target->is_watched)
		epoll_ctl(target->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

/* Nobody is to connect to them any more. One whose socket was handed out is FAILED, until it is allowed again. */
static void drop_attempts(struct kvi_target *target, const struct kvi_attempt *winner)
{
	for (size_t i = 0; i < target->count; i++) {
		struct kvi_attempt *attempt = &target->attempts[i];
		if (attempt->state != PENDING)
			continue;
		if (attempt != winner)
			kvi_target_close_socket(target, attempt->fd);
		attempt->state = UNTRIED;
	}
}

void kvi_target_close(struct kvi_target *target)
{
	drop_lookup(target);
	drop_attempts(target, NULL);
	kvi_free(target->pollfds);
	kvi_free(target->attempts);
	for (size_t i = 0; i < target->list_count; i++)
		freeaddrinfo(target->addresses[i]);
}

/* ---- telling ---- */

static void print_address(const struct kvi_attempt *attempt, char text[KVI_HOST_LEN])
{
	if (getnameinfo(attempt->address->ai_addr, attempt->address->ai_addrlen, text, KVI_HOST_LEN,
			NULL, 0, NI_NUMERICHOST) != 0)
		strcpy(text, "?");
}

void kvi_target_print_host(const struct kvi_target *target, char *text, size_t len)
{
	char address[KVI_HOST_LEN];
	print_address(target->chosen, address);
	snprintf(text, len, "%s", target->host != NULL ? target->host : address);
}

enum kvt_err kvi_target_blame(const struct kvi_target *target, struct kvt_error *error)
{
	char address[KVI_HOST_LEN];
	snprintf(address, sizeof(address), "%s", get_name(target));
	if (target->chosen != NULL)
		print_address(target->chosen, address);
	const char *host = target->host != NULL ? target->host : address;
	bool is_plain = strcmp(address, host) == 0;
	return kvi_fail(error, error->code, error->provider_errno, "%s%s%s%s port %u: %s", host,
			is_plain ? "" : " (", is_plain ? "" : address, is_plain ? "" : ")",
			target->port, error->text);
}

/* Why no address could be connected: the reason of the only one, or what became of each. */
static enum kvt_err fail_all(struct kvi_target *target, struct kvt_error *error)
{
	char text[KVT_TEXT_LEN];
	size_t len =
		(size_t)snprintf(text, sizeof(text), "%s port %u", get_name(target), target->port);
	struct kvt_error first = { .code = KVT_E_UNREACHABLE };
	for (size_t i = 0; i < target->count; i++) {
		struct kvi_attempt *attempt = &target->attempts[i];
		if (attempt->state == PENDING)
			kvi_fail(&attempt->cause, KVT_E_UNREACHABLE, ETIMEDOUT,
				 "it did not answer in time");
		else if (attempt->state == UNTRIED)
			kvi_fail(&attempt->cause, KVT_E_UNREACHABLE, 0,
				 "no time was left to try it");
		bool is_telling = attempt->cause.code != KVT_E_UNREACHABLE;
		if (i == 0 || (is_telling && first.code == KVT_E_UNREACHABLE))
			first = attempt->cause;
		char address[KVI_HOST_LEN];
		print_address(attempt, address);
		if (len < sizeof(text))
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s %s: %s",
						i == 0 ? ":" : ";", address, attempt->cause.text);
	}
	if (target->count > 1)
		return kvi_fail(error, first.code, first.provider_errno, "%s", text);
	*error = first;
	target->chosen = &target->attempts[0];
	return kvi_target_blame(target, error);
}

/* ---- connecting ---- */

static void fail_attempt(struct kvi_target *target, struct kvi_attempt *attempt, int err)
{
	bool is_limit = err == EMFILE || err == ENFILE;
	const struct sockaddr_in6 *in6 = (const void *)attempt->address->ai_addr;
	bool lacks_zone = err == EINVAL && attempt->address->ai_family == AF_INET6 &&
			  IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) && in6->sin6_scope_id == 0;
	if (attempt->state == PENDING)
		kvi_target_close_socket(target, attempt->fd);
	attempt->state = FAILED;
	kvi_fail(&attempt->cause, is_limit ? KVT_E_LIMIT : KVT_E_UNREACHABLE, err, "%s%s%s",
		 is_limit ? "no descriptor for a connection: " : "", strerror(err),
		 lacks_zone ? "; a link-local address needs its interface, as in fe80::1%eth0"
			    : "");
}

/* Begin; true when it is connected already. */
static bool start_attempt(struct kvi_target *target, struct kvi_attempt *attempt)
{
	const struct addrinfo *address = attempt->address;
	attempt->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (attempt->fd < 0) {
		fail_attempt(target, attempt, errno);
		return false;
	}
	attempt->state = PENDING;
	if (connect(attempt->fd, address->ai_addr, address->ai_addrlen) == 0)
		return true;
	struct epoll_event event = { .events = EPOLLOUT, .data.ptr = target->what };
	if ((errno != EINPROGRESS && errno != EINTR) ||
	    (target->is_watched &&
	     epoll_ctl(target->epoll_fd, EPOLL_CTL_ADD, attempt->fd, &event) != 0))
		fail_attempt(target, attempt, errno);
	return false;
}

static struct kvi_attempt *find_untried(const struct kvi_target *target, size_t *untried_count)
{
	struct kvi_attempt *first = NULL;
	*untried_count = 0;
	for (size_t i = target->count; i > 0; i--) {
		if (target->attempts[i - 1].state != UNTRIED)
			continue;
		first = &target->attempts[i - 1];
		++*untried_count;
	}
	return first;
}

/* Look at those that are pending, or wait for them; true when one has connected or failed. */
static bool look_at_attempts(struct kvi_target *target, int wait_ms, struct kvi_attempt **winner)
{
	bool has_news = false;
	for (size_t i = 0; i < target->count; i++) {
		struct kvi_attempt *attempt = &target->attempts[i];
		target->pollfds[i].fd = attempt->state == PENDING ? attempt->fd : -1;
		target->pollfds[i].events = POLLOUT;
		target->pollfds[i].revents = 0;
	}
	if (poll(target->pollfds, target->count, wait_ms) <= 0 || winner == NULL)
		return false;
	for (size_t i = 0; i < target->count && *winner == NULL; i++) {
		struct kvi_attempt *attempt = &target->attempts[i];
		int err = 0;
		socklen_t len = sizeof(err);
		if (target->pollfds[i].revents == 0)
			continue;
		has_news = true;
		if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
			err = errno;
		if (err == 0)
			*winner = attempt;
		else
			fail_attempt(target, attempt, err);
	}
	return has_news;
}

static bool is_pending(const struct kvi_target *target)
{
	for (size_t i = 0; i < target->count; i++)
		if (target->attempts[i].state == PENDING)
			return true;
	return false;
}

/* The first that connects. AGAIN: none has yet. */
static enum kvt_err race(struct kvi_target *target, struct kvi_attempt **winner,
			 struct kvt_error *error)
{
	for (;;) {
		int64_t now = kvi_clock_now();
		size_t untried_count;
		if (look_at_attempts(target, 0, winner))
			target->next_ns = now;
		if (*winner != NULL)
			return KVT_OK;
		struct kvi_attempt *attempt = find_untried(target, &untried_count);
		if (now >= target->deadline_ns || (attempt == NULL && !is_pending(target)))
			return fail_all(target, error);
		if (attempt == NULL || now < target->next_ns)
			return KVT_E_AGAIN;
		if (start_attempt(target, attempt)) {
			*winner = attempt;
			return KVT_OK;
		}
		/* However short the time is, each address gets its share. */
		int64_t share_ns = (target->deadline_ns - now) / (int64_t)(untried_count + 1);
		if (attempt->state == PENDING)
			target->next_ns =
				now + (share_ns < ATTEMPT_DELAY_NS ? share_ns : ATTEMPT_DELAY_NS);
	}
}

enum kvt_err kvi_target_connect(struct kvi_target *target, int *fd, struct kvt_error *error)
{
	struct kvi_attempt *winner = NULL;
	/* Before another's socket is taken for one that has connected. */
	if (kvi_engine_has_lost_fds(target->engine))
		return kvi_fail(error, KVT_E_CLOSED, EBADF, "%s", KVI_FDS_LOST_TEXT);
	enum kvt_err err = race(target, &winner, error);
	if (err == KVT_E_AGAIN)
		return err;
	/* Or they were lost while it looked. */
	if (winner == NULL && kvi_engine_has_lost_fds(target->engine))
		return kvi_fail(error, KVT_E_CLOSED, EBADF, "%s", KVI_FDS_LOST_TEXT);
	drop_attempts(target, winner);
	target->next_ns = 0;
	if (winner == NULL)
		return err;
	if (target->is_watched)
		epoll_ctl(target->epoll_fd, EPOLL_CTL_DEL, winner->fd, NULL);
	target->chosen = winner;
	winner->state = FAILED; /* until it has shown to be an engine, which nobody need tell us */
	*fd = winner->fd;
	return KVT_OK;
}

int64_t kvi_target_get_due(const struct kvi_target *target)
{
	size_t untried_count;
	int64_t due_ns = target->deadline_ns;
	if (target->lookup != NULL)
		due_ns = kvi_deadline_after(LOOKUP_NS);
	else if (find_untried(target, &untried_count) != NULL)
		due_ns = target->next_ns;
	return due_ns < target->deadline_ns ? due_ns : target->deadline_ns;
}

void kvi_target_await(struct kvi_target *target, int64_t until_ns)
{
	int wait_ms = kvi_deadline_get_ms(until_ns, KVI_SLICE_MS);
	if (target->lookup == NULL) {
		look_at_attempts(target, wait_ms, NULL);
		return;
	}
	const struct gaicb *requests[] = { &target->lookup->request };
	struct timespec slice = { .tv_nsec = wait_ms * KVI_MS };
	gai_suspend(requests, 1, &slice);
}

void kvi_target_set_aside(struct kvi_target *target, const struct kvt_error *cause)
{
	target->chosen->cause = *cause;
}

void kvi_target_allow_again(struct kvi_target *target)
{
	target->chosen->state = UNTRIED;
}

bool kvi_target_has_more(const struct kvi_target *target)
{
	size_t untried_count;
	return find_untried(target, &untried_count) != NULL;
}
