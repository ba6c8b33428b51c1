/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write_blocks.c - write blocks of one paged pool into another, and learn that they have landed. The
 * engine connects to itself; between two processes the descriptor travels any way you like.
 *
 *	write_blocks [INTERFACE]
 */
#include <kvtrans.h>

#include <stdio.h>
#include <string.h>

enum { BLOCKS = 1024, BLOCK_LEN = 16384, COUNT = 700 };

static const int64_t wait_ns = INT64_C(30000000000);

/* Write block i of one pool to block (7 * i) % BLOCKS of the peer's, for each i below COUNT. */
static enum kvt_err write_blocks(struct kvt_pool *from, struct kvt_remote *to,
				 struct kvt_error *error)
{
	int32_t local[COUNT], remote[COUNT];
	for (int i = 0; i < COUNT; i++)
		remote[i] = 7 * (local[i] = i) % BLOCKS;
	struct kvt_blocks_request request = { .size = sizeof(request),
					      .direction = KVT_WRITE,
					      .pool = from,
					      .remote = to,
					      .local_idx = local,
					      .remote_idx = remote,
					      .index_len = sizeof(local[0]),
					      .count = COUNT,
					      .notify = "request 1",
					      .notify_len = 9 };
	struct kvt_result result = KVT_RESULT_INIT;
	struct kvt_transfer *transfer;

	enum kvt_err err = kvt_blocks_start(&request, &transfer, error);
	if (err != KVT_OK)
		return err;
	kvt_transfer_wait(transfer, KVT_FOREVER); /* it has a deadline: 60 s */
	kvt_transfer_get_result(transfer, &result);
	printf("%s: %zu bytes in %.3f ms\n", kvt_err_get_name(result.err), result.len,
	       result.transfer_ns / 1e6);
	snprintf(error->text, sizeof(error->text), "%s", result.text);
	kvt_transfer_free(transfer);
	return result.err;
}

/* Wait for the notification: when it is here, the blocks are. */
static enum kvt_err await_notification(struct kvt_engine *engine, struct kvt_error *error)
{
	struct kvt_event *event = NULL;
	enum kvt_err err = kvt_engine_wait(engine, wait_ns);

	if (err == KVT_OK)
		err = kvt_engine_get_event(engine, &event);
	if (err == KVT_OK)
		printf("notification: %.*s\n", (int)event->len, (const char *)event->data);
	else
		snprintf(error->text, sizeof(error->text), "no notification came");
	kvt_event_free(event);
	return err;
}

static bool is_right(const unsigned char *from, const unsigned char *to)
{
	for (size_t i = 0; i < COUNT; i++)
		if (memcmp(from + i * BLOCK_LEN, to + 7 * i % BLOCKS * BLOCK_LEN, BLOCK_LEN) != 0)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	const char *interface = argc > 1 ? argv[1] : "lo";
	const char *host = argc > 1 ? argv[1] : "127.0.0.1";
	struct kvt_engine_config config = { .size = sizeof(config),
					    .interfaces = &interface,
					    .interface_count = 1 };
	struct kvt_extent extent = { NULL, BLOCKS, BLOCK_LEN }; /* the engine allocates */
	struct kvt_pool_config pool = KVT_POOL_CONFIG_INIT;
	struct kvt_engine *engine = NULL;
	struct kvt_conn *client = NULL, *server = NULL;
	struct kvt_pool *from = NULL, *to = NULL;
	struct kvt_export *exported = NULL;
	struct kvt_remote *remote = NULL;
	struct kvt_error error = { 0 };
	unsigned char desc[256];
	size_t desc_len = sizeof(desc);
	bool right = false;

	pool.extents = &extent;
	pool.extent_count = 1;
	pool.block_len = BLOCK_LEN;
	if (kvt_engine_open(&config, &engine, &error) != KVT_OK ||
	    kvt_conn_open(engine, host, kvt_engine_get_port(engine), 0, &client, &error) ||
	    kvt_conn_accept(engine, wait_ns, &server, &error) != KVT_OK ||
	    kvt_pool_open(engine, &pool, &from, &error) != KVT_OK ||
	    kvt_pool_open(engine, &pool, &to, &error) != KVT_OK)
		goto out;
	for (size_t i = 0; i < (size_t)BLOCKS * BLOCK_LEN; i++)
		((unsigned char *)kvt_pool_get_base(from, 0))[i] = (unsigned char)(i * 31 >> 8);
	if (kvt_export_open(server, to, KVT_ACCESS_WRITE, NULL, &exported, &error) == KVT_OK &&
	    kvt_export_describe(exported, desc, &desc_len) == KVT_OK &&
	    kvt_remote_import(client, desc, desc_len, 0, &remote, &error) == KVT_OK &&
	    write_blocks(from, remote, &error) == KVT_OK &&
	    await_notification(engine, &error) == KVT_OK)
		right = is_right(kvt_pool_get_base(from, 0), kvt_pool_get_base(to, 0));
out:
	printf("%s %s\n", right ? "all blocks are right" : "failed:", error.text);
	kvt_remote_close(remote);
	kvt_export_close(exported); /* from here on the peer cannot touch the pool */
	kvt_pool_close(to);
	kvt_pool_close(from);
	kvt_conn_close(client);
	kvt_conn_close(server);
	kvt_engine_close(engine);
	return right ? 0 : 1;
}
