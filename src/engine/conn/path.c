/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - the choice of the path, on both sides. The boot id says where it is worth to look; that lanes stand, on a socket
 * of this network namespace and with tokens of this session, is what decides.
 */
#include "engine/conn/path.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "auth/handshake.h"
#include "base/alloc.h"
#include "engine/conn/control.h"
#include "engine/conn/life.h"
#include "engine/conn/session.h"
#include "engine/core/engine.h"

#define NO_HOST_ID "this host does not tell its boot id"
#define NO_OFFER "the peer offers no local lanes: it names its provider, or opts out"

static void give_reason(struct kvt_conn *conn, const char *reason)
{
	snprintf(conn->path_reason, sizeof(conn->path_reason), "%s", reason);
}

static void set_trial(struct kvt_conn *conn, enum kvi_trial_state state)
{
	pthread_mutex_lock(&conn->lock);
	conn->trial.state = state;
	pthread_mutex_unlock(&conn->lock);
}

static void try_local(struct kvt_conn *conn)
{
	kvi_conn_take_path(conn, &conn->engine->local);
	set_trial(conn, KVI_TRIAL_RUNS);
}

void kvi_path_begin(struct kvt_conn *conn, const struct kvi_welcome *agreed)
{
	struct kvt_engine *engine = conn->engine;
	bool insists = strcmp(agreed->provider, KVI_LOCAL_PROVIDER) == 0;
	conn->path = insists ? &engine->local : &engine->network;
}

/* Why this side does not offer local lanes to a client; NULL: it does. */
static const char *find_objection(const struct kvt_engine *engine, const struct kvi_hello *client)
{
	if (engine->local.count == 0)
		return engine->no_local_text;
	if (!kvi_hello_has_provider(client, KVI_LOCAL_PROVIDER))
		return "the peer takes no local lanes: it names its provider, or opts out";
	return engine->host_id_len == 0 ? NO_HOST_ID : NULL;
}

static void prove_host(const struct kvt_conn *conn, uint8_t proof[KVI_HOST_PROOF_LEN])
{
	const struct kvt_engine *engine = conn->engine;
	kvi_secrets_prove_host(conn->secrets, engine->host_id, engine->host_id_len, proof);
}

bool kvi_path_offer(struct kvi_session *session, struct kvi_near *near)
{
	struct kvt_conn *conn = session->conn;
	struct kvt_error error;
	if (conn->path == &conn->engine->local)
		return false;
	const char *objection = find_objection(conn->engine, &session->handshake.remote);
	if (objection == NULL && kvi_control_await_local(session, &near->rail, &error) != KVT_OK)
		objection = error.text;
	if (objection != NULL) {
		give_reason(conn, objection);
		return false;
	}
	prove_host(conn, near->proof);
	try_local(conn);
	return true;
}

enum kvt_err kvi_path_on_offer(struct kvt_conn *conn, const struct kvi_near *near)
{
	/* Only who has both paths may be asked which. */
	if (conn->is_server || conn->engine->local.count == 0 ||
	    conn->path != &conn->engine->network || conn->peer_lanes != NULL || conn->near != NULL)
		return KVT_E_PROTOCOL;
	conn->near = kvi_alloc(sizeof(*conn->near));
	if (conn->near == NULL)
		return KVT_E_NO_MEMORY;
	*conn->near = *near;
	return KVT_OK;
}

bool kvi_path_choose(struct kvt_conn *conn)
{
	const struct kvt_engine *engine = conn->engine;
	uint8_t proof[KVI_HOST_PROOF_LEN];
	if (conn->path == &engine->local)
		return true;
	if (conn->near == NULL) {
		give_reason(conn, engine->local.count == 0 ? engine->no_local_text : NO_OFFER);
		return true;
	}
	prove_host(conn, proof);
	if (engine->host_id_len == 0)
		give_reason(conn, NO_HOST_ID);
	else if (sodium_memcmp(proof, conn->near->proof, sizeof(proof)) != 0)
		give_reason(conn, "the peer is on another host");
	else
		try_local(conn);
	return conn->path == &engine->local;
}

void kvi_path_leave(struct kvt_conn *conn, const char *reason)
{
	if (conn->path != &conn->engine->network)
		kvi_conn_take_path(conn, &conn->engine->network);
	give_reason(conn, reason);
	set_trial(conn, KVI_TRIAL_NONE);
}

bool kvi_path_fall_back(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	char text[KVT_TEXT_LEN];
	if (kvi_trial_get_state(conn, text) != KVI_TRIAL_FAILED)
		return false;
	pthread_mutex_lock(&engine->lock);
	bool is_being_made = conn->wants_lanes || conn->makes_lanes;
	pthread_mutex_unlock(&engine->lock);
	if (is_being_made)
		return false; /* who is at it will tell */
	kvi_path_leave(conn, text);
	return true;
}

void kvi_path_follow(struct kvt_conn *conn, size_t rail)
{
	const struct kvi_path *network = &conn->engine->network;
	if (!kvi_conn_has_path(conn) && rail >= network->first &&
	    rail - network->first < network->count)
		kvi_path_leave(conn, ""); /* the client's words are on their way */
}
