/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include <array>
#include <cstdio>
#include <random>
#include <sstream>
#include <stdexcept>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>

namespace kvtrans
{

namespace
{

constexpr const char *address_version = "kvtrans-1";

} /* namespace */

std::string Address::pack() const
{
	return std::string(address_version) + " " + instance + " " + std::to_string(port) + " " +
	       host;
}

bool Address::unpack(const std::string &bytes)
{
	std::istringstream words(bytes);
	std::string version;
	return words >> version >> instance >> port >> host && version == address_version &&
	       port != 0;
}

std::string find_host(const std::string &interface)
{
	std::array<char, NI_MAXHOST> host{};
	in6_addr address;
	ifaddrs *list = nullptr;
	if (inet_pton(AF_INET, interface.c_str(), &address) == 1 ||
	    inet_pton(AF_INET6, interface.c_str(), &address) == 1 || getifaddrs(&list) != 0)
		return interface;
	for (int family : { AF_INET, AF_INET6 }) {
		socklen_t len = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
		for (const ifaddrs *at = list; at != nullptr && host[0] == '\0';
		     at = at->ifa_next) {
			if (at->ifa_addr != nullptr && at->ifa_addr->sa_family == family &&
			    interface == at->ifa_name)
				getnameinfo(at->ifa_addr, len, host.data(), host.size(), nullptr, 0,
					    NI_NUMERICHOST);
		}
	}
	freeifaddrs(list);
	if (host[0] == '\0')
		throw std::runtime_error("interface " + interface +
					 " has no IP address: name one of this host");
	return host.data();
}

std::string make_instance()
{
	std::random_device random;
	std::array<char, 17> text{};
	std::snprintf(text.data(), text.size(), "%08x%08x", random(), random());
	return text.data();
}

} /* namespace kvtrans */
