/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send_receive.c - move one array from a client to a server. It shows the order of the calls and
 * who cleans up; it never overlaps transfers, for which start several before the first wait.
 *
 *	send_receive server lo 12345
 *	send_receive client lo 12345 127.0.0.1
 */
#include <kvtrans.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 1 << 20, LEN = COUNT * sizeof(uint32_t) };

static const int64_t wait_ns = INT64_C(60000000000);

static int fail(const char *action, enum kvt_err err, const char *text)
{
	fprintf(stderr, "%s: %s: %s\n", action, kvt_err_get_name(err), text);
	return -1;
}

/* Wait for a transfer, print what became of it, free it. */
static int finish(struct kvt_transfer *transfer, const char *action)
{
	struct kvt_result result = { .size = sizeof(result) };
	enum kvt_err err = kvt_transfer_wait(transfer, wait_ns);
	int rc = 0;

	if (err == KVT_OK)
		err = kvt_transfer_get_result(transfer, &result);
	if (err != KVT_OK)
		rc = fail(action, err, kvt_err_get_text(err));
	else if (result.err != KVT_OK)
		rc = fail(action, result.err, result.text);
	else
		printf("%s %zu bytes in %.3f ms\n", action, result.len, result.transfer_ns / 1e6);
	kvt_transfer_free(transfer);
	return rc;
}

static int receive_array(struct kvt_kv *kv, uint32_t *array)
{
	struct kvt_recv_request request = {
		.size = sizeof(request), .base = array, .len = LEN, .timeout_ns = wait_ns
	};
	struct kvt_transfer *transfer;
	struct kvt_error error;

	enum kvt_err err = kvt_recv_start(kv, &request, &transfer, &error);
	if (err != KVT_OK)
		return fail("receive", err, error.text);
	if (finish(transfer, "received") < 0)
		return -1;
	for (uint32_t i = 0; i < COUNT; i++)
		if (array[i] != i * i)
			return fail("check", KVT_E_INTERNAL, "an element is wrong");
	printf("all %d elements are right\n", COUNT);
	return 0;
}

static int send_array(struct kvt_kv *kv, uint32_t *array)
{
	struct kvt_send_request request = { .size = sizeof(request), .base = array, .len = LEN };
	struct kvt_transfer *transfer;
	struct kvt_error error;

	for (uint32_t i = 0; i < COUNT; i++)
		array[i] = i * i;
	enum kvt_err err = kvt_send_start(kv, &request, &transfer, &error);
	return err != KVT_OK ? fail("send", err, error.text) : finish(transfer, "sent");
}

int main(int argc, char **argv)
{
	bool is_server = argc == 4 && strcmp(argv[1], "server") == 0;
	if (!is_server && !(argc == 5 && strcmp(argv[1], "client") == 0)) {
		fprintf(stderr, "usage: %s server INTERFACE PORT | client INTERFACE PORT HOST\n",
			argv[0]);
		return 2;
	}
	uint32_t *array = calloc(COUNT, sizeof(*array));
	if (array == NULL)
		return 1;

	const char *interface = argv[2];
	uint16_t port = (uint16_t)atoi(argv[3]);
	struct kvt_engine_config config = { .size = sizeof(config),
					    .interfaces = &interface,
					    .interface_count = 1,
					    .listen_port = is_server ? port : 0 };
	struct kvt_kv_config kv_config = {
		.size = sizeof(kv_config), .base = array, .len = LEN, .tag = KVT_TAG_AUTO
	};
	struct kvt_engine *engine = NULL;
	struct kvt_conn *conn = NULL;
	struct kvt_kv *kv = NULL;
	struct kvt_error error;
	int rc = -1;

	enum kvt_err err = kvt_engine_open(&config, &engine, &error);
	if (err == KVT_OK)
		err = is_server ? kvt_conn_accept(engine, wait_ns, &conn, &error)
				: kvt_conn_open(engine, argv[4], port, 0, &conn, &error);
	if (err == KVT_OK)
		err = kvt_kv_open(conn, &kv_config, &kv, &error);
	if (err == KVT_OK)
		rc = is_server ? receive_array(kv, array) : send_array(kv, array);
	else
		fail("open", err, error.text);

	kvt_kv_close(kv); /* from here on nobody touches the array */
	kvt_conn_close(conn);
	kvt_engine_close(engine);
	free(array);
	return rc == 0 ? 0 : 1;
}
