/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interface.c - from what the user calls an interface (network interface, RDMA device, IP address)
 * to an address and device names. It asks the kernel only, never libfabric, and resolves no host
 * names.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "fabric/internal.h"

#define RDMA_CLASS "/sys/class/infiniband"

/* The address as text. False for what no rail uses, as link-local ones. */
static bool format_address(const struct sockaddr *address, char host[INET6_ADDRSTRLEN])
{
	if (address == NULL)
		return false;
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)address;
		return inet_ntop(AF_INET, &in->sin_addr, host, INET6_ADDRSTRLEN) != NULL;
	}
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)address;
		return !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) &&
		       inet_ntop(AF_INET6, &in6->sin6_addr, host, INET6_ADDRSTRLEN) != NULL;
	}
	return false;
}

/* Text that names the same address in the same way, however the user wrote it. */
static bool normalize_address(const char *text, char host[INET6_ADDRSTRLEN])
{
	struct in6_addr bytes;
	int family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
	return inet_pton(family, text, &bytes) == 1 &&
	       inet_ntop(family, &bytes, host, INET6_ADDRSTRLEN) != NULL;
}

/* The network interface of an RDMA device. */
static bool read_netdev(const char *rdma, char netdev[IF_NAMESIZE])
{
	char path[256];
	bool found = false;
	snprintf(path, sizeof(path), RDMA_CLASS "/%s/ports/1/gid_attrs/ndevs/0", rdma);
	FILE *file = fopen(path, "re");
	if (file != NULL) {
		found = fscanf(file, "%15s", netdev) == 1; /* IF_NAMESIZE - 1 */
		fclose(file);
	}
	if (found)
		return true;
	snprintf(path, sizeof(path), RDMA_CLASS "/%s/device/net", rdma);
	DIR *dir = opendir(path);
	if (dir == NULL)
		return false;
	for (struct dirent *entry; !found && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IF_NAMESIZE)
			continue;
		strcpy(netdev, entry->d_name);
		found = true;
	}
	closedir(dir);
	return found;
}

bool kvi_interface_is_rdma(const char *name)
{
	char path[256];
	if (name[0] == '.' || strchr(name, '/') != NULL || strlen(name) >= KVI_RDMA_NAME_LEN)
		return false;
	snprintf(path, sizeof(path), RDMA_CLASS "/%s", name);
	DIR *dir = opendir(path);
	if (dir != NULL)
		closedir(dir);
	return dir != NULL;
}

/* The first usable address of netdev (unless that is ""), or the interface that has host. IPv4
 * wins. */
static bool match_address(const struct ifaddrs *addresses, struct kvi_interface *interface)
{
	static const int families[] = { AF_INET, AF_INET6 };
	bool by_name = interface->netdev[0] != '\0';
	for (size_t i = 0; i < 2; i++) {
		for (const struct ifaddrs *at = addresses; at != NULL; at = at->ifa_next) {
			char host[INET6_ADDRSTRLEN];
			if (!format_address(at->ifa_addr, host) ||
			    at->ifa_addr->sa_family != families[i])
				continue;
			if (by_name ? strcmp(at->ifa_name, interface->netdev) != 0
				    : strcmp(host, interface->host) != 0)
				continue;
			strcpy(interface->host, host);
			snprintf(interface->netdev, IF_NAMESIZE, "%s", at->ifa_name);
			return true;
		}
	}
	return false;
}

/* Append " name", unless it is there or does not fit. */
static void append_name(char *text, size_t size, const char *name)
{
	size_t len = strlen(text);
	char word[KVI_RDMA_NAME_LEN + 2];
	snprintf(word, sizeof(word), " %s", name);
	const char *at = strstr(text, word);
	if (at != NULL && (at[strlen(word)] == ' ' || at[strlen(word)] == '\0'))
		return;
	if (len + strlen(word) < size)
		strcpy(text + len, word);
}

static enum kvt_err fail_unknown(const char *name, const struct ifaddrs *addresses,
				 struct kvt_error *error)
{
	char names[160] = "";
	char host[INET6_ADDRSTRLEN];
	for (const struct ifaddrs *at = addresses; at != NULL; at = at->ifa_next) {
		if (format_address(at->ifa_addr, host))
			append_name(names, sizeof(names), at->ifa_name);
	}
	DIR *dir = opendir(RDMA_CLASS);
	if (dir != NULL) {
		for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
			if (entry->d_name[0] != '.')
				append_name(names, sizeof(names), entry->d_name);
		}
		closedir(dir);
	}
	return kvi_fail(error, KVT_E_INVALID, 0, "no interface \"%.40s\"; there are:%s", name,
			names);
}

enum kvt_err kvi_interface_find(const char *name, struct kvi_interface *interface,
				struct kvt_error *error)
{
	struct kvi_interface found = { .host = "" };
	struct ifaddrs *addresses;
	if (getifaddrs(&addresses) != 0)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "cannot list the network interfaces");

	enum kvt_err err = KVT_OK;
	bool is_address = normalize_address(name, found.host);
	if (!is_address && if_nametoindex(name) != 0) {
		strcpy(found.netdev, name); /* the kernel knows it: it fits */
	} else if (!is_address) {
		if (!kvi_interface_is_rdma(name)) {
			err = fail_unknown(name, addresses, error);
			goto free_addresses;
		}
		strcpy(found.rdma, name);
		if (!read_netdev(name, found.netdev)) {
			err = kvi_fail(error, KVT_E_INVALID, 0,
				       "RDMA device %s has no network interface", name);
			goto free_addresses;
		}
	}
	if (match_address(addresses, &found))
		*interface = found;
	else if (is_address)
		err = fail_unknown(name, addresses, error);
	else
		err = kvi_fail(error, KVT_E_INVALID, 0, "interface %s has no IP address", name);
free_addresses:
	freeifaddrs(addresses);
	return err;
}
