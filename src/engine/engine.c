/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - opening and stopping an engine, and taking the peers that called it.
 */
#include "engine/conn/offer.h"
#include "engine/core/engine.h"

#include <errno.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include <config.h>
#include "engine/conn/control.h"
#include "engine/conn/dialer.h"
#include "engine/conn/life.h"
#include "engine/core/abi.h"
#include "engine/lane/link.h"
#include "engine/messages.h"
#include "engine/paged/pool.h"
#include "engine/progress/worker.h"
#include "engine/transfer/inbox.h"
#include "engine/transfer/spread.h"
#include "engine/transfer/transfer.h"

const char *kvt_get_version(void)
{
	return PACKAGE_VERSION;
}

static void release_engine(struct kvi_ref *ref)
{
	struct kvt_engine *engine = kvi_container_of(ref, struct kvt_engine, ref);
	for (unsigned i = 0; i < engine->worker_count; i++)
		kvi_worker_free(engine->workers[i]);
	kvi_dialer_free(engine->dialer);
	kvi_control_free(engine->control);
	kvi_inbox_close(&engine->inbox);
	kvi_keyring_close(&engine->keyring);
	kvi_vault_destroy(&engine->vault);
	pthread_mutex_destroy(&engine->lock);
	pthread_mutex_destroy(&engine->offers_lock);
	pthread_cond_destroy(&engine->changed);
	kvi_free(engine);
}

/* ---- open ---- */

static const struct kvi_worker_calls worker_calls = {
	.on_lane_event = kvi_link_on_event,
	.flush = kvi_links_flush,
	.on_due = kvi_transfer_on_due,
	.tell = kvi_inbox_tell,
};

static bool hand_out(struct kvt_conn *conn);

static void check_fds(struct kvt_engine *engine)
{
	for (unsigned i = 0; i < engine->worker_count && !atomic_load(&engine->fds_lost); i++)
		if (!kvi_worker_has_fds(engine->workers[i]))
			kvi_engine_lose_fds(engine);
}

static void mute_wakes(struct kvt_engine *engine)
{
	for (unsigned i = 0; i < engine->worker_count; i++)
		kvi_wake_mute(&engine->workers[i]->wake);
	kvi_control_mute(engine->control);
}

static enum kvt_err open_rails(struct kvt_engine *engine, const struct kvt_engine_config *config,
			       struct kvt_error *error)
{
	const char *provider = config->provider;
	for (size_t i = 0; i < config->interface_count; i++) {
		enum kvt_err err =
			kvi_rail_open(config->interfaces[i], provider, &engine->rails[i], error);
		if (err != KVT_OK)
			return err;
		engine->rail_count++;
		/* One provider for all rails: a connection's lanes differ in nothing but their NIC. */
		provider = kvi_rail_get_caps(engine->rails[0])->provider;
	}
	const struct kvi_caps *caps = kvi_rail_get_caps(engine->rails[0]);
	struct kvi_path *path = caps->one_host ? &engine->local : &engine->network;
	*path = (struct kvi_path){ .count = (unsigned)engine->rail_count, .caps = caps };
	if (caps->own_domains && !caps->same_rkey)
		return kvi_fail(error, KVT_E_UNSUPPORTED, 0,
				"provider %s has a domain per worker but keys of its own",
				caps->provider);
	if (engine->settings.lane_ports.low != 0 && !caps->one_port)
		return kvi_fail(error, KVT_E_UNSUPPORTED, 0,
				"lane_ports: with provider %s each lane opens a port that cannot "
				"be "
				"chosen; use another provider",
				caps->provider);
	memcpy(engine->provider, caps->provider, sizeof(engine->provider));
	return KVT_OK;
}

/* The way within this host, beside the network's, unless the user has chosen. */
static void open_local(struct kvt_engine *engine, const struct kvt_engine_config *config)
{
	struct kvi_rail **rail = &engine->rails[engine->rail_count];
	struct kvt_error error = { .text = "" };
	if (config->provider != NULL)
		snprintf(error.text, sizeof(error.text), "this side's provider is named: %.32s",
			 config->provider);
	else if (!engine->settings.takes_local)
		snprintf(error.text, sizeof(error.text), "KVTRANS_LOCAL=0 is set on this side");
	else if (kvi_rail_open(config->interfaces[0], KVI_LOCAL_PROVIDER, rail, &error) == KVT_OK)
		engine->local = (struct kvi_path){ .first = (unsigned)engine->rail_count++,
						   .count = 1,
						   .caps = kvi_rail_get_caps(*rail) };
	memcpy(engine->no_local_text, error.text, sizeof(engine->no_local_text));
	engine->host_id_len = kvi_host_read_id(engine->host_id);
}

/* Two interfaces may be of one host. */
static bool has_host(const struct kvi_address *address, const char *host)
{
	for (unsigned i = 0; i < address->host_count; i++)
		if (strcmp(address->hosts[i], host) == 0)
			return true;
	return false;
}

static void list_hosts(struct kvt_engine *engine)
{
	struct kvi_address *address = &engine->address;
	memcpy(address->instance, engine->instance, sizeof(address->instance));
	for (size_t i = 0; i < engine->rail_count; i++) {
		const char *host = kvi_rail_get_host(engine->rails[i]);
		if (!has_host(address, host))
			snprintf(address->hosts[address->host_count++], KVI_ADDRESS_HOST_LEN, "%s",
				 host);
	}
}

/* CPUs for the workers: the user's, else those near the NIC when there are enough of them. */
static void pin_workers(struct kvt_engine *engine, const struct kvt_engine_config *config)
{
	unsigned near_cpus[KVI_CPUS_MAX];
	const unsigned *cpus = config->cpus;
	size_t count = config->cpu_count;
	if (count == 0) {
		cpus = near_cpus;
		count = kvi_rail_get_near_cpus(engine->rails[0], near_cpus, KVI_CPUS_MAX);
		if (count < engine->worker_count)
			return;
	}
	for (unsigned i = 0; i < engine->worker_count; i++)
		kvi_thread_pin(engine->workers[i]->thread, cpus[i % count]);
}

/* Undo what open has done; in reverse. */
static void close_parts(struct kvt_engine *engine)
{
	check_fds(engine); /* before anybody is woken to stop */
	if (engine->dialer != NULL)
		kvi_dialer_stop(engine->dialer);
	if (engine->control != NULL)
		kvi_control_stop(engine->control);
	kvi_pools_stop(engine);
	for (unsigned i = 0; i < engine->worker_count; i++)
		kvi_worker_stop(engine->workers[i]);
	for (size_t i = 0; i < engine->rail_count; i++)
		kvi_rail_close(engine->rails[i]);
}

/* The workers, with their queues on all rails, and the control thread. */
static enum kvt_err try_threads(struct kvt_engine *engine, struct kvt_error *error)
{
	const struct kvi_settings *settings = &engine->settings;
	while (engine->worker_count < settings->ncpus) {
		enum kvt_err err = kvi_worker_open(engine, engine->worker_count, &worker_calls,
						   &engine->workers[engine->worker_count], error);
		if (err != KVT_OK)
			return err;
		engine->worker_count++;
	}
	return kvi_control_start(engine->control, settings->listen_port, error);
}

/* No thread may see a rail go. */
static void drop_local(struct kvt_engine *engine, const struct kvt_error *why)
{
	for (unsigned i = 0; i < engine->worker_count; i++)
		kvi_worker_stop(engine->workers[i]);
	while (engine->worker_count > 0)
		kvi_worker_free(engine->workers[--engine->worker_count]);
	kvi_rail_close(engine->rails[--engine->rail_count]);
	engine->local = (struct kvi_path){ .count = 0 };
	snprintf(engine->no_local_text, sizeof(engine->no_local_text),
		 "this side could not open it: %.200s", why->text);
}

/* Where it is the way within this host that cannot be had, the engine goes without. */
static enum kvt_err start_threads(struct kvt_engine *engine, struct kvt_error *error)
{
	struct kvt_error why;
	enum kvt_err err = try_threads(engine, &why);
	if (err != KVT_OK && engine->network.count > 0 && engine->local.count > 0) {
		drop_local(engine, &why);
		err = try_threads(engine, &why);
	}
	return err == KVT_OK ? KVT_OK : kvi_fail(error, err, why.provider_errno, "%s", why.text);
}

enum kvt_err kvt_engine_open(const struct kvt_engine_config *given, struct kvt_engine **engine_out,
			     struct kvt_error *error)
{
	struct kvt_engine_config config;
	struct kvi_settings settings;
	if (engine_out == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no place for the engine is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_engine_config, &config, given, error);
	if (err == KVT_OK)
		err = kvi_settings_init(&settings, &config, error);
	if (err != KVT_OK)
		return err;
	if (sodium_init() < 0)
		return kvi_fail(error, KVT_E_INTERNAL, 0, "libsodium cannot start");
	struct kvt_engine *engine = kvi_alloc(sizeof(*engine));
	if (engine == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an engine");

	engine->settings = settings;
	engine->fork_count = kvi_fork_get_count();
	randombytes_buf(engine->instance, sizeof(engine->instance));
	engine->handlers = &kvi_message_handlers;
	engine->check_fds = check_fds;
	engine->mute_wakes = mute_wakes;
	engine->hand_out = hand_out;
	pthread_mutex_init(&engine->lock, NULL);
	pthread_mutex_init(&engine->offers_lock, NULL);
	kvi_list_init(&engine->offers);
	kvi_cond_init(&engine->changed);
	kvi_list_init(&engine->conns);
	kvi_list_init(&engine->ready);
	kvi_list_init(&engine->pools);
	kvi_vault_init(&engine->vault);
	kvi_ref_init(&engine->ref, 1, release_engine);

	err = kvi_inbox_open(&engine->inbox);
	if (err != KVT_OK) {
		kvi_fail(error, err, errno, "no descriptor for an engine");
		kvi_ref_drop(&engine->ref);
		return err;
	}
	err = kvi_keyring_open(&engine->keyring, config.auth_key, config.auth_key_len,
			       config.insecure, error);
	if (err == KVT_OK)
		err = open_rails(engine, &config, error);
	if (err != KVT_OK)
		goto err_close;
	list_hosts(engine);
	open_local(engine, &config);
	if (config.insecure)
		kvi_log(KVI_LOG_WARN, "insecure", "this engine lets in whoever reaches its port");
	engine->dialer = kvi_dialer_alloc(engine);
	engine->control = kvi_control_alloc(engine);
	if (engine->dialer == NULL || engine->control == NULL) {
		err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an engine");
		goto err_close;
	}
	err = start_threads(engine, error);
	if (err != KVT_OK)
		goto err_close;
	pin_workers(engine, &config);
	engine->port = kvi_control_get_port(engine->control);
	engine->address.port = engine->port;
	*engine_out = engine;
	return KVT_OK;

err_close:
	close_parts(engine);
	kvi_ref_drop(&engine->ref);
	return err;
}

/* ---- stop and close ---- */

void kvt_engine_stop(struct kvt_engine *engine)
{
	if (engine == NULL || kvi_engine_is_forked(engine))
		return;
	if (atomic_exchange(&engine->stopping, true)) {
		pthread_mutex_lock(&engine->lock);
		while (!engine->stopped)
			kvi_cond_wait(&engine->changed, &engine->lock, KVI_NEVER);
		pthread_mutex_unlock(&engine->lock);
		return;
	}
	/* Calls that are inside see that the engine stops within one of their slices. */
	while (atomic_load(&engine->callers) > 0) {
		pthread_mutex_lock(&engine->lock);
		pthread_cond_broadcast(&engine->changed);
		kvi_list_for_each (node, next_node, &engine->conns) {
			struct kvt_conn *conn = kvi_container_of(node, struct kvt_conn, node);
			if (atomic_load(&conn->state) == KVI_CONN_OPENING)
				kvi_conn_fail(conn, KVT_E_CLOSED, 0,
					      "the engine was closed on this side");
		}
		pthread_mutex_unlock(&engine->lock);
		kvi_thread_rest(KVI_MS);
	}
	close_parts(engine);

	struct kvi_list *node, unaccepted;
	kvi_list_init(&unaccepted);
	pthread_mutex_lock(&engine->lock);
	kvi_list_move_all(&unaccepted, &engine->ready);
	while ((node = kvi_list_take_first(&unaccepted)) != NULL) {
		struct kvt_conn *conn = kvi_container_of(node, struct kvt_conn, ready_node);
		pthread_mutex_unlock(&engine->lock);
		kvi_inbox_forget(&engine->inbox, conn);
		kvi_ref_drop(&conn->ref);
		pthread_mutex_lock(&engine->lock);
	}
	engine->stopped = true;
	pthread_cond_broadcast(&engine->changed);
	pthread_mutex_unlock(&engine->lock);
}

void kvt_engine_close(struct kvt_engine *engine)
{
	if (engine == NULL || kvi_engine_is_forked(engine))
		return;
	kvt_engine_stop(engine);
	kvi_ref_drop(&engine->ref);
}

/* ---- getters ---- */

uint16_t kvt_engine_get_port(const struct kvt_engine *engine)
{
	return engine->port;
}

const char *kvt_engine_get_host(const struct kvt_engine *engine)
{
	return engine->address.hosts[0];
}

enum kvt_err kvt_engine_get_address(const struct kvt_engine *engine, void *bytes, size_t *len)
{
	if (engine == NULL || len == NULL)
		return KVT_E_INVALID;
	uint8_t encoded[KVI_ENGINE_ADDRESS_LEN_MAX];
	size_t room = *len;
	*len = kvi_address_encode(&engine->address, encoded);
	if (bytes == NULL)
		return KVT_OK;
	if (room < *len)
		return KVT_E_TOO_LARGE;
	memcpy(bytes, encoded, *len);
	return KVT_OK;
}

const char *kvt_engine_get_provider(const struct kvt_engine *engine)
{
	return engine->provider;
}

enum kvt_err kvt_engine_reload_keys(struct kvt_engine *engine, const void *auth_key,
				    size_t auth_key_len, struct kvt_error *error)
{
	if (engine == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no engine is given");
	if (kvi_engine_is_forked(engine))
		return kvi_fail(error, KVT_E_FORKED, 0, KVI_FORKED_TEXT);
	return kvi_keyring_reload(&engine->keyring, auth_key, auth_key_len, error);
}

/* In flight on all connections. */
static uint64_t count_transfers(struct kvt_engine *engine)
{
	uint64_t count = 0;
	pthread_mutex_lock(&engine->lock);
	kvi_list_for_each (node, next_node, &engine->conns)
		count +=
			atomic_load(&kvi_container_of(node, struct kvt_conn, node)->transfer_count);
	pthread_mutex_unlock(&engine->lock);
	return count;
}

enum kvt_err kvt_engine_get_stats(struct kvt_engine *engine, struct kvt_stats *stats)
{
	uint64_t values[KVI_COUNTERS] = { 0 };
	if (engine == NULL)
		return KVT_E_INVALID;
	kvi_stats_gather(values, &engine->counters);
	for (unsigned i = 0; i < engine->worker_count; i++)
		kvi_stats_gather(values, &engine->workers[i]->counters);
	if (!kvi_engine_is_forked(engine))
		values[KVI_COUNT_TRANSFERS] += count_transfers(engine);
	return kvi_stats_fill(values, stats);
}

/* ---- accept ---- */

static bool hand_out(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	if (kvi_engine_enter(engine, NULL) != KVT_OK)
		return false; /* it goes with the engine */
	pthread_mutex_lock(&engine->lock);
	bool waits = !kvi_list_is_empty(&conn->ready_node);
	kvi_list_remove(&conn->ready_node);
	if (waits)
		kvi_conn_leave_place(conn);
	pthread_mutex_unlock(&engine->lock);
	if (waits)
		kvi_offers_hand_out(conn);
	kvi_engine_leave(engine);
	return waits;
}

enum kvt_err kvt_conn_accept(struct kvt_engine *engine, int64_t timeout_ns,
			     struct kvt_conn **conn_out, struct kvt_error *error)
{
	int64_t wait_ns;
	if (engine == NULL || conn_out == NULL ||
	    !kvi_timeout_read(timeout_ns, KVT_FOREVER, &wait_ns))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"no engine or no place is given, or timeout_ns is %lld; allowed "
				"are " KVI_TIMEOUT_RULE,
				(long long)timeout_ns);
	if (engine->settings.accept_events)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"this engine has accept_events: its peers come as events");
	enum kvt_err err = kvi_engine_enter(engine, error);
	if (err != KVT_OK)
		return err;
	int64_t deadline_ns = kvi_deadline_after(wait_ns);
	struct kvi_list *node = NULL;
	pthread_mutex_lock(&engine->lock);
	while (err == KVT_OK && (node = kvi_list_take_first(&engine->ready)) == NULL) {
		if (atomic_load(&engine->stopping)) {
			err = kvi_fail(error, KVT_E_CLOSED, 0, "the engine is closed");
		} else if (atomic_load(&engine->fds_lost)) {
			err = kvi_fail(error, KVT_E_CLOSED, EBADF, "%s", KVI_FDS_LOST_TEXT);
		} else if (kvi_clock_now() >= deadline_ns) {
			err = kvi_fail(error, KVT_E_TIMEOUT, 0, "no peer has connected in time");
		} else if (!kvi_engine_await_change(engine, deadline_ns)) {
			err = kvi_fail(error, KVT_E_CANCELLED, 0,
				       "interrupted while waiting for a peer");
		}
	}
	struct kvt_conn *conn = NULL;
	if (node != NULL) {
		conn = kvi_container_of(node, struct kvt_conn, ready_node);
		kvi_conn_leave_place(conn);
	}
	pthread_mutex_unlock(&engine->lock);
	if (conn != NULL) {
		kvi_offers_hand_out(conn);
		*conn_out = conn;
	}
	kvi_engine_leave(engine);
	return err;
}
