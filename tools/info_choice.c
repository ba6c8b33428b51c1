/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_choice.c - what an engine would take. It opens rails as an engine does, so that what it says is
 * what an engine does, and closes them again. It sends nothing.
 */
#include "info.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void info_find_offers(struct info_report *report)
{
	report->offer_count = kvi_survey_list(report->offers, INFO_OFFERS_MAX);
	kvi_survey_get_version(&report->libfabric_major, &report->libfabric_minor);
	report->setting_count = kvi_survey_list_settings(report->settings, INFO_SETTINGS_MAX);
}

static void describe_rail(struct kvi_rail *rail, struct info_choice *choice)
{
	const struct kvi_caps *caps = kvi_rail_get_caps(rail);
	snprintf(choice->provider, sizeof(choice->provider), "%s", caps->provider);
	snprintf(choice->host, sizeof(choice->host), "%s", kvi_rail_get_host(rail));
	snprintf(choice->netdev, sizeof(choice->netdev), "%s", kvi_survey_get_netdev(rail));
	snprintf(choice->domain, sizeof(choice->domain), "%s", kvi_survey_get_domain(rail));
	choice->segment_len_max = caps->max_segment_len;
	choice->pins = caps->local_memory;
	choice->near_cpu_count = kvi_rail_get_near_cpus(rail, choice->near_cpus, INFO_CPUS_MAX);
	kvi_survey_test_memory(rail, &choice->memory);
}

static struct info_candidate judge(const struct kvi_offer *offer, const char *name,
				   const struct info_choice *choice)
{
	struct info_candidate candidate = { .provider = offer->provider };
	struct kvi_rail *rail;
	if (strcmp(offer->provider, choice->provider) == 0) {
		candidate.serves = true;
		candidate.is_taken = true;
		candidate.why = "the first in the order of preference that serves it";
	} else if (kvi_rail_open(name, offer->provider, &rail, NULL) == KVT_OK) {
		kvi_rail_close(rail);
		candidate.serves = true;
		candidate.why = offer->only_by_name ? "it serves this interface, and is taken only "
						      "by name"
						    : "it serves this interface, and is preferred "
						      "less";
	} else {
		candidate.why = kvi_survey_explain(offer->provider, choice->host);
	}
	return candidate;
}

void info_choose(const struct info_report *report, const char *name, struct info_choice *choice)
{
	struct kvi_rail *rail;
	if (kvi_rail_open(name, NULL, &rail, &choice->error) != KVT_OK)
		return;
	describe_rail(rail, choice);
	kvi_rail_close(rail);
	for (size_t i = 0; i < report->offer_count; i++) {
		if (report->offers[i].is_used && choice->candidate_count < INFO_CANDIDATES_MAX)
			choice->candidates[choice->candidate_count++] =
				judge(&report->offers[i], name, choice);
	}
}

/* Two RDMA devices can share an interface: show the one that is taken. */
static void show_taken_port(const struct info_report *report, struct info_interface *interface)
{
	const struct info_port *port =
		info_find_port(report, interface->name, interface->choice.domain);
	if (port != NULL)
		interface->port = port;
}

static int choose_named(struct info_report *report)
{
	struct info_choice choice = { .provider = "" };
	info_choose(report, report->interface, &choice);
	for (size_t i = 0; i < report->interface_count; i++) {
		if (strcmp(report->interfaces[i].name, choice.netdev) != 0)
			continue;
		report->interfaces[0] = report->interfaces[i];
		report->interfaces[0].choice = choice;
		report->interface_count = 1;
		show_taken_port(report, &report->interfaces[0]);
		return INFO_OK;
	}
	warnx("%s", choice.error.text);
	return INFO_FAILED;
}

int info_choose_all(struct info_report *report)
{
	if (report->interface != NULL)
		return choose_named(report);
	for (size_t i = 0; i < report->interface_count; i++) {
		struct info_interface *interface = &report->interfaces[i];
		info_choose(report, interface->name, &interface->choice);
		show_taken_port(report, interface);
	}
	return INFO_OK;
}

/* The address of this host that packets to peer leave from; nothing is sent. False: no route. */
static bool find_route(const struct addrinfo *peer, char host[KVI_HOST_LEN])
{
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	int fd = socket(peer->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool found = connect(fd, peer->ai_addr, peer->ai_addrlen) == 0 &&
		     getsockname(fd, (struct sockaddr *)&local, &len) == 0 &&
		     getnameinfo((struct sockaddr *)&local, len, host, KVI_HOST_LEN, NULL, 0,
				 NI_NUMERICHOST) == 0;
	int cause = errno;
	close(fd);
	errno = cause;
	return found;
}

int info_find_peer(struct info_report *report)
{
	struct info_peer *peer = &report->peer;
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *list;
	char host[KVI_HOST_LEN] = "";

	/* Port 9: any will do, as nothing is sent. */
	int rc = getaddrinfo(peer->name, "9", &hints, &list);
	if (rc != 0) {
		warnx("cannot resolve %s: %s", peer->name, gai_strerror(rc));
		return INFO_FAILED;
	}
	for (const struct addrinfo *at = list; at != NULL && host[0] == '\0'; at = at->ai_next) {
		if (find_route(at, host))
			getnameinfo(at->ai_addr, at->ai_addrlen, peer->address,
				    sizeof(peer->address), NULL, 0, NI_NUMERICHOST);
	}
	int cause = errno;
	freeaddrinfo(list);
	if (host[0] == '\0') {
		warnx("no route to %s: %s", peer->name, strerror(cause));
		return INFO_FAILED;
	}
	info_choose(report, host, &peer->choice);
	if (peer->choice.provider[0] == '\0') {
		warnx("%s is reached from %s, which no engine can use: %s", peer->name, host,
		      peer->choice.error.text);
		return INFO_FAILED;
	}
	peer->is_aside = report->interface != NULL &&
			 strcmp(report->interfaces[0].name, peer->choice.netdev) != 0;
	return INFO_OK;
}
