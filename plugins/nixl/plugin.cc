/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.cc - what NIXL looks for in libplugin_KVTRANS.so, and whether it is a NIXL that fits. */
#include <dlfcn.h>

#include <exception>
#include <string>

#include "backend.h"
#include "interface.h"
#include "settings.h"

namespace
{

/*
 * The version of the interface that NIXL asks for never changed, the interface did: with 1.0.0 functions went out of
 * the middle of it. What a NIXL's library offers its own users tells which it is. The library is the caller.
 */
bool fits(void *caller)
{
	static const char new_call[] = "_ZNK9nixlAgent11prepMemViewERK12nixlDescListI14nixlRemoteDe"
				       "scERPvPK21nixlAgentOptionalArgs";
	Dl_info info;
	if (dladdr(caller, &info) == 0)
		return false;
	void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	bool found = library != nullptr && dlsym(library, new_call) != nullptr;
	if (!found)
		kvtrans::complain(std::string(info.dli_fname) + " is of a NIXL whose backends are "
								"others: this plugin is for NIXL "
								"1.0.0 to 1.5");
	if (library != nullptr)
		dlclose(library);
	return found;
}

/* A string that is laid out as ours are, and is a name. Short ones are inside the object: nothing else is looked at. */
bool is_name(const std::string &text)
{
	const char *self = reinterpret_cast<const char *>(&text);
	bool is_short = text.data() >= self && text.data() < self + sizeof(text);
	return !text.empty() && (text.size() < 16) == is_short && text.size() < 65536;
}

nixl::Backend *open_backend(const nixl::Start *start)
{
	if (start == nullptr || !is_name(start->backend) || !is_name(start->agent) ||
	    start->settings == nullptr || start->threads > nixl::Threads::READ_WRITE) {
		kvtrans::complain("what NIXL opens a backend with is laid out otherwise than in "
				  "NIXL 1.0.0 to 1.5");
		return nullptr;
	}
	try {
		return new kvtrans::KvtransBackend(*start);
	} catch (const std::exception &error) {
		kvtrans::complain(error.what());
		return nullptr;
	}
}

void close_backend(nixl::Backend *backend)
{
	delete backend;
}

const char *get_name()
{
	return "KVTRANS";
}

nixl::Memories get_memories()
{
	return { nixl::HOST };
}

nixl::Plugin plugin = {
	nixl::API_VERSION, open_backend,	   close_backend, get_name,
	kvt_get_version,   kvtrans::list_settings, get_memories,
};

} /* namespace */

extern "C" {

KVT_API nixl::Plugin *nixl_plugin_init();
KVT_API void nixl_plugin_fini();

nixl::Plugin *nixl_plugin_init()
{
	return fits(__builtin_return_address(0)) ? &plugin : nullptr;
}

void nixl_plugin_fini()
{
}
}
