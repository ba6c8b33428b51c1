/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_host.c - the path between two processes of this host: two engines with the defaults connect, and tell. What
 * one process may read of another's memory, the kernel tells.
 */
#include "info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS INT64_C(2000000000)

/* A key for these two. */
static struct kvt_engine *open_one(const uint8_t key[INFO_KEY_LEN], struct kvt_error *error)
{
	static const char *const interfaces[] = { "localhost" };
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	struct kvt_engine *engine = NULL;
	config.interfaces = interfaces;
	config.interface_count = 1;
	config.ncpus = 1;
	config.auth_key = key;
	config.auth_key_len = INFO_KEY_LEN;
	kvt_engine_open(&config, &engine, error);
	return engine;
}

static void connect_two(struct kvt_engine *one, struct kvt_engine *other, struct info_host *host,
			struct kvt_error *error)
{
	const char *reason;
	struct kvt_conn *conn;
	if (kvt_conn_open(one, kvt_engine_get_host(other), kvt_engine_get_port(other), PATIENCE_NS,
			  &conn, error) != KVT_OK)
		return;
	snprintf(host->path, sizeof(host->path), "%s", kvt_conn_get_path(conn, &reason));
	snprintf(host->reason, sizeof(host->reason), "%s", reason);
	kvt_conn_close(conn);
}

static int64_t read_ptrace_scope(void)
{
	int scope = (int)INFO_UNKNOWN;
	FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	if (file == NULL)
		return 0; /* the kernel has no such limit */
	if (fscanf(file, "%d", &scope) != 1)
		scope = (int)INFO_UNKNOWN;
	fclose(file);
	return scope;
}

void info_find_host(struct info_host *host)
{
	struct kvt_error error = { .code = KVT_OK };
	uint8_t key[INFO_KEY_LEN];
	if (getentropy(key, sizeof(key)) != 0)
		return;
	struct kvt_engine *one = open_one(key, &error);
	struct kvt_engine *other = one != NULL ? open_one(key, &error) : NULL;
	if (other != NULL)
		connect_two(one, other, host, &error);
	if (host->path[0] == '\0')
		snprintf(host->reason, sizeof(host->reason), "%s", error.text);
	host->ptrace_scope = read_ptrace_scope();
	kvt_engine_close(one);
	kvt_engine_close(other);
}
