/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

namespace kvtrans
{

namespace
{

struct Name {
	const char *parameter;
	const char *variable;
};

/* The key file's variable is the library's: it reads that itself. */
constexpr std::array<Name, 6> names = { {
	{ "interfaces", "KVTRANS_INTERFACES" },
	{ "provider", "KVTRANS_PROVIDER" },
	{ "ncpus", "KVTRANS_NCPUS" },
	{ "nconn_per_cpu", "KVTRANS_NCONN_PER_CPU" },
	{ "port", "KVTRANS_PORT" },
	{ "key_file", nullptr },
} };

std::string get_setting(const nixl::Settings &settings, const char *parameter)
{
	auto found = settings.find(parameter);
	if (found != settings.end() && !found->second.empty())
		return found->second;
	for (const Name &name : names) {
		const char *value = nullptr;
		if (name.variable != nullptr && std::string(name.parameter) == parameter)
			value = std::getenv(name.variable);
		if (value != nullptr)
			return value;
	}
	return "";
}

unsigned get_number(const nixl::Settings &settings, const char *parameter, unsigned max)
{
	std::string text = get_setting(settings, parameter);
	unsigned number = 0;
	if (text.empty())
		return 0;
	auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
	if (error != std::errc() || end != text.data() + text.size() || number > max)
		throw std::runtime_error(std::string(parameter) + " is \"" + text +
					 "\", and must be a number up to " + std::to_string(max));
	return number;
}

/* The first interface that other hosts may reach, as the system lists them, IPv4 first; else the loopback. */
std::string find_interface()
{
	ifaddrs *list = nullptr;
	if (getifaddrs(&list) != 0)
		return "lo";
	std::string found;
	for (int family : { AF_INET, AF_INET6 }) {
		for (const ifaddrs *at = list; at != nullptr && found.empty(); at = at->ifa_next) {
			constexpr unsigned up = IFF_UP | IFF_RUNNING;
			if (at->ifa_addr != nullptr && at->ifa_addr->sa_family == family &&
			    (at->ifa_flags & (up | IFF_LOOPBACK)) == up)
				found = at->ifa_name;
		}
	}
	freeifaddrs(list);
	return found.empty() ? "lo" : found;
}

std::vector<std::string> get_interfaces(const nixl::Settings &settings)
{
	std::string text = get_setting(settings, "interfaces");
	std::replace(text.begin(), text.end(), ',', ' ');
	std::istringstream words(text);
	std::vector<std::string> interfaces{ std::istream_iterator<std::string>(words), {} };
	if (interfaces.empty())
		interfaces.push_back(find_interface());
	return interfaces;
}

std::string read_key(const nixl::Settings &settings)
{
	std::string path = get_setting(settings, "key_file");
	if (path.empty())
		return "";
	std::ifstream file(path, std::ios::binary);
	std::string key{ std::istreambuf_iterator<char>(file), {} };
	if (key.empty())
		throw std::runtime_error("key_file is \"" + path +
					 "\", which cannot be read, or is empty");
	return key;
}

} /* namespace */

nixl::Settings list_settings()
{
	nixl::Settings settings;
	for (const Name &name : names)
		settings[name.parameter] = "";
	return settings;
}

kvt_engine *open_engine(const nixl::Settings &settings, const std::string &agent)
{
	for (const auto &[parameter, value] : settings) {
		if (list_settings().count(parameter) == 0)
			complain("parameter " + parameter + "=" + value +
				 " is none of ours; it does nothing");
	}
	std::vector<std::string> interfaces = get_interfaces(settings);
	std::vector<const char *> texts;
	for (const std::string &interface : interfaces)
		texts.push_back(interface.c_str());
	std::string provider = get_setting(settings, "provider");
	std::string key = read_key(settings);

	kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	config.interfaces = texts.data();
	config.interface_count = texts.size();
	config.provider = provider.empty() ? nullptr : provider.c_str();
	config.ncpus = get_number(settings, "ncpus", 256);
	config.nconn_per_cpu = get_number(settings, "nconn_per_cpu", 1024);
	config.listen_port = static_cast<uint16_t>(get_number(settings, "port", UINT16_MAX));
	config.auth_key = key.empty() ? nullptr : key.data();
	config.auth_key_len = key.size();
	std::string identity = identity_prefix + agent;
	config.identity = identity.data();
	config.identity_len = identity.size();
	config.accept_events = true;
	kvt_engine *engine = nullptr;
	kvt_error error;
	if (kvt_engine_open(&config, &engine, &error) != KVT_OK)
		throw std::runtime_error(error.text);
	return engine;
}

void complain(const std::string &text)
{
	std::fprintf(stderr, "kvtrans: nixl: %s\n", text.c_str());
}

void complain_undelivered(size_t count, const std::string &why)
{
	complain((count == 1 ? "a notification was"
			     : std::to_string(count) + " notifications were") +
		 std::string(" not delivered: ") + why);
}

} /* namespace kvtrans */
