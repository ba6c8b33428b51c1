/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvtrans_info.c - the program kvtrans-info: what an engine would find and take on this host, and what
 * would hurt it. It opens no engine and sends nothing.
 */
#include "info.h"

#include <argp.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

struct arguments {
	const char *peer;
	const char *interface;
	bool json;
};

static const struct argp_option option_table[] = {
	{ "interface", 'i', "NAME", 0, "only this interface, RDMA device or IP address", 0 },
	{ "json", 'j', NULL, 0, "print one JSON object", 0 },
	{ 0 },
};

static const char usage[] = "[HOST]";
static const char doc[] = "Show interfaces, RDMA devices and libfabric's providers, what a KVTrans "
			  "engine takes on each "
			  "interface and why, and limits of this host that would hurt. With HOST "
			  "also what is taken on "
			  "the way to that peer; nothing is sent there.\v"
			  "Exit status: 0 success, whatever is advised; 1 the interface or HOST "
			  "cannot be used, or the "
			  "report cannot be made; 2 wrong use.";

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct arguments *arguments = state->input;
	switch (key) {
	case 'i':
		if (arguments->interface != NULL)
			argp_error(state, "one --interface is enough");
		arguments->interface = text;
		return 0;
	case 'j':
		arguments->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (arguments->peer != NULL)
			argp_error(state, "one HOST is enough");
		arguments->peer = text;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void print_version(FILE *stream, struct argp_state *state)
{
	(void)state;
	fprintf(stream, "kvtrans-info %s\n", kvt_get_version());
}

static int make_report(struct info_report *report)
{
	if (info_find_net(report) != 0) {
		warn("cannot list the network interfaces");
		return INFO_FAILED;
	}
	info_find_offers(report);
	int status = info_choose_all(report);
	if (status == INFO_OK && report->peer.name != NULL)
		status = info_find_peer(report);
	if (status != INFO_OK)
		return status;
	info_find_host(&report->host);
	info_find_limits(report);
	info_advise(report);
	return INFO_OK;
}

int main(int argc, char **argv)
{
	const struct argp parser = {
		.options = option_table,
		.parser = parse_option,
		.args_doc = usage,
		.doc = doc,
	};
	struct arguments arguments = { .peer = NULL };
	struct info_report *report = calloc(1, sizeof(*report));
	if (report == NULL)
		err(INFO_FAILED, "no memory");
	info_note_start(&report->limits);
	argp_err_exit_status = INFO_USAGE;
	argp_program_version_hook = print_version;
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	report->peer.name = arguments.peer;
	report->interface = arguments.interface;

	int status = make_report(report);
	if (status == INFO_OK && arguments.json)
		info_print_json(report);
	else if (status == INFO_OK)
		info_print_text(report);
	if (status == INFO_OK && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
		warn("cannot write the report");
		status = INFO_FAILED;
	}
	free(report->ports);
	free(report->interfaces);
	free(report);
	return status;
}
