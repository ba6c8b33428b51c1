/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_net.c - interfaces and RDMA ports as the kernel shows them, in files and getifaddrs(). It asks
 * libfabric nothing.
 */
#include "info.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NET_CLASS "/sys/class/net"
#define RDMA_CLASS "/sys/class/infiniband"

enum { GIDS_MAX = 256, PATH_LEN = 320 };

/* The first line of a file; "" when it cannot be read. */
static void read_line(const char *path, char *line, size_t size)
{
	char text[INFO_WORD_LEN] = "";
	FILE *file = fopen(path, "re");
	if (file != NULL) {
		if (fgets(text, sizeof(text), file) == NULL)
			text[0] = '\0';
		fclose(file);
	}
	text[strcspn(text, "\n")] = '\0';
	snprintf(line, size, "%s", text);
}

/* A number of zero or more. */
static int read_number(const char *path)
{
	char line[INFO_WORD_LEN], *end;
	read_line(path, line, sizeof(line));
	long number = strtol(line, &end, 10);
	return end == line || number < 0 || number > INT32_MAX ? INFO_UNKNOWN : (int)number;
}

/* ---- RDMA ports ---- */

/* RoCE: a GID of the port names its interface. */
static void find_roce_netdev(struct info_port *port)
{
	char path[PATH_LEN];
	for (unsigned i = 0; i < GIDS_MAX && port->netdev[0] == '\0'; i++) {
		snprintf(path, sizeof(path), RDMA_CLASS "/%s/ports/%u/gid_attrs/ndevs/%u",
			 port->device, port->number, i);
		read_line(path, port->netdev, sizeof(port->netdev));
	}
}

/* IPoIB: the interface hangs on the same device, and its number there is the port's less one. */
static void find_ipoib_netdev(struct info_port *port)
{
	char path[PATH_LEN * 2], dir_path[PATH_LEN];
	snprintf(dir_path, sizeof(dir_path), RDMA_CLASS "/%s/device/net", port->device);
	DIR *dir = opendir(dir_path);
	if (dir == NULL)
		return;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL && port->netdev[0] == '\0';) {
		char number[INFO_WORD_LEN];
		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IF_NAMESIZE)
			continue;
		snprintf(path, sizeof(path), "%s/%s/dev_port", dir_path, entry->d_name);
		read_line(path, number, sizeof(number));
		if (number[0] == '\0' || strtoul(number, NULL, 10) == port->number - 1)
			strcpy(port->netdev, entry->d_name);
	}
	closedir(dir);
}

static void read_port(struct info_port *port)
{
	char path[PATH_LEN], state[INFO_WORD_LEN];
	int len = snprintf(path, sizeof(path), RDMA_CLASS "/%s/ports/%u/", port->device,
			   port->number);
	char *end = path + len;
	size_t size = sizeof(path) - (size_t)len;

	snprintf(end, size, "state"); /* as "4: ACTIVE" */
	read_line(path, state, sizeof(state));
	const char *colon = strstr(state, ": ");
	snprintf(port->state, sizeof(port->state), "%s", colon != NULL ? colon + 2 : state);
	snprintf(end, size, "link_layer");
	read_line(path, port->link_layer, sizeof(port->link_layer));
	snprintf(end, size, "rate");
	read_line(path, port->rate, sizeof(port->rate));
	snprintf(path, sizeof(path), RDMA_CLASS "/%s/device/numa_node", port->device);
	port->numa_node = read_number(path);
	find_roce_netdev(port);
	if (port->netdev[0] == '\0')
		find_ipoib_netdev(port);
}

static int add_ports(struct info_report *report, const char *device)
{
	char path[PATH_LEN];
	snprintf(path, sizeof(path), RDMA_CLASS "/%s/ports", device);
	DIR *dir = opendir(path);
	if (dir == NULL)
		return 0;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		struct info_port *ports =
			realloc(report->ports, (report->port_count + 1) * sizeof(*ports));
		if (ports == NULL) {
			closedir(dir);
			return -1;
		}
		report->ports = ports;
		struct info_port *port = &ports[report->port_count++];
		*port = (struct info_port){ .number = (unsigned)strtoul(entry->d_name, NULL, 10) };
		snprintf(port->device, sizeof(port->device), "%s", device);
		read_port(port);
	}
	closedir(dir);
	return 0;
}

static int compare_ports(const void *a, const void *b)
{
	const struct info_port *left = a, *right = b;
	int order = strcmp(left->device, right->device);
	return order != 0 ? order : (int)left->number - (int)right->number;
}

static int find_ports(struct info_report *report)
{
	int rc = 0;
	DIR *dir = opendir(RDMA_CLASS);
	if (dir == NULL)
		return 0; /* a kernel without RDMA */
	for (struct dirent *entry; rc == 0 && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] != '.' && strlen(entry->d_name) < INFO_WORD_LEN)
			rc = add_ports(report, entry->d_name);
	}
	closedir(dir);
	if (report->port_count > 1)
		qsort(report->ports, report->port_count, sizeof(*report->ports), compare_ports);
	return rc;
}

const struct info_port *info_find_port(const struct info_report *report, const char *netdev,
				       const char *device)
{
	for (size_t i = 0; i < report->port_count; i++) {
		if (strcmp(report->ports[i].netdev, netdev) == 0 &&
		    (device == NULL || strcmp(report->ports[i].device, device) == 0))
			return &report->ports[i];
	}
	return NULL;
}

/* ---- interfaces ---- */

static void read_interface(struct info_interface *interface)
{
	char path[PATH_LEN];
	snprintf(path, sizeof(path), NET_CLASS "/%s/mtu", interface->name);
	interface->mtu = read_number(path);
	snprintf(path, sizeof(path), NET_CLASS "/%s/speed", interface->name);
	interface->speed_mbit = read_number(path);
	snprintf(path, sizeof(path), NET_CLASS "/%s/device/numa_node", interface->name);
	interface->numa_node = read_number(path);
}

static struct info_interface *find_interface(struct info_report *report, const char *name)
{
	for (size_t i = 0; i < report->interface_count; i++) {
		if (strcmp(report->interfaces[i].name, name) == 0)
			return &report->interfaces[i];
	}
	struct info_interface *interfaces =
		realloc(report->interfaces, (report->interface_count + 1) * sizeof(*interfaces));
	if (interfaces == NULL)
		return NULL;
	report->interfaces = interfaces;
	struct info_interface *interface = &interfaces[report->interface_count++];
	*interface = (struct info_interface){ .mtu = INFO_UNKNOWN };
	snprintf(interface->name, sizeof(interface->name), "%s", name);
	read_interface(interface);
	return interface;
}

/* Link-local addresses are left out: an engine does not use them. */
static void add_address(struct info_interface *interface, const struct sockaddr *address)
{
	const void *bytes = NULL;
	if (address != NULL && address->sa_family == AF_INET)
		bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
	if (address != NULL && address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)address;
		if (!IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
			bytes = &in6->sin6_addr;
	}
	if (bytes != NULL && interface->address_count < INFO_ADDRESSES_MAX)
		inet_ntop(address->sa_family, bytes,
			  interface->addresses[interface->address_count++], INET6_ADDRSTRLEN);
}

int info_find_net(struct info_report *report)
{
	struct ifaddrs *list;
	if (find_ports(report) != 0 || getifaddrs(&list) != 0)
		return -1;
	int rc = 0;
	for (const struct ifaddrs *at = list; at != NULL && rc == 0; at = at->ifa_next) {
		struct info_interface *interface = find_interface(report, at->ifa_name);
		if (interface == NULL) {
			rc = -1;
			break;
		}
		interface->is_up = (at->ifa_flags & IFF_RUNNING) != 0 &&
				   (at->ifa_flags & IFF_UP) != 0;
		add_address(interface, at->ifa_addr);
	}
	freeifaddrs(list);
	for (size_t i = 0; i < report->interface_count; i++)
		report->interfaces[i].port =
			info_find_port(report, report->interfaces[i].name, NULL);
	return rc;
}
