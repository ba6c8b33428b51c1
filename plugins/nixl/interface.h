/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interface.h - what NIXL and a backend of it have in common, in our own words: its wheels bring no headers, and
 * its code is not ours to copy. What binds the two is how objects are laid out and the order of virtual
 * functions, which are the same from NIXL 1.0.0 to 1.5.2. tests/nixl holds it, with NIXL's wheels.
 *
 * Functions that a backend may leave out answer UNSUPPORTED.
 */
#ifndef KVTRANS_PLUGINS_NIXL_INTERFACE_H
#define KVTRANS_PLUGINS_NIXL_INTERFACE_H

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nixl
{

enum { API_VERSION = 1 };

enum Memory { HOST, DEVICE, BLOCK, OBJECT, FILE_SYSTEM };

enum Operation { READ, WRITE };

enum Status {
	IN_PROGRESS = 1,
	SUCCESS = 0,
	NOT_POSTED = -1,
	INVALID = -2,
	BACKEND = -3,
	NOT_FOUND = -4,
	MISMATCH = -5,
	NOT_ALLOWED = -6,
	REPOST_ACTIVE = -7,
	UNKNOWN = -8,
	UNSUPPORTED = -9,
	DISCONNECTED = -10,
	CANCELLED = -11,
};

enum class Threads { NONE, STRICT, READ_WRITE };

using Settings = std::unordered_map<std::string, std::string>;
using Memories = std::vector<Memory>;
/* From whom, and what. */
using Notifications = std::vector<std::pair<std::string, std::string>>;

struct Options {
	std::string notification;
	bool has_notification = false;
	std::string other;
};

/* What an agent gives a backend that it opens. */
class Start
{
      public:
	std::string agent;
	std::string backend;
	Settings *settings = nullptr;
	bool progress_thread = false;
	uint64_t progress_delay = 0;
	Threads threads = Threads::NONE;
	bool telemetry = false;
};

/* A backend's own: a transfer that was prepared, and memory that was registered or is a peer's. */
class Handle
{
      public:
	virtual ~Handle() = default;
};

class Registered
{
      protected:
	bool is_private = false;

      public:
	virtual ~Registered() = default;
};

class Span
{
      public:
	uintptr_t address = 0;
	size_t len = 0;
	uint64_t device = 0;
};

class DescribedSpan : public Span
{
      public:
	std::string description;
};

class RegisteredSpan : public Span
{
      public:
	Registered *registered = nullptr;
};

struct RemoteSpan : public RegisteredSpan {
	std::string agent;
};

template <class T> class List
{
      protected:
	Memory memory_;
	std::vector<T> spans_;

      public:
	virtual ~List() = default;
	Memory memory() const
	{
		return memory_;
	}
	const std::vector<T> &spans() const
	{
		return spans_;
	}

      private:
	virtual void resize(const size_t &count);
	virtual void append(const T &span);
	virtual int find(const Span &span) const;
};

using Spans = List<RegisteredSpan>;

class Backend
{
      private:
	std::string name_;
	Settings settings_;
	std::vector<uint64_t> telemetry_; /* of a type that changes with the version: left empty */
	std::mutex telemetry_lock_;

      protected:
	bool failed_ = false;
	const std::string agent_;
	const bool telemetry_wanted_;

      public:
	explicit Backend(const Start &start)
	    : name_(start.backend), settings_(*start.settings), agent_(start.agent),
	      telemetry_wanted_(start.telemetry)
	{
	}
	Backend(const Backend &) = delete;
	Backend &operator=(const Backend &) = delete;
	virtual ~Backend() = default;

	virtual bool supports_remote() const = 0;
	virtual bool supports_local() const = 0;
	virtual bool supports_notifications() const = 0;
	virtual Memories get_memories() const = 0;

	virtual Status register_memory(const DescribedSpan &span, const Memory &memory,
				       Registered *&registered) = 0;
	virtual Status deregister_memory(Registered *registered) = 0;

	virtual Status connect(const std::string &agent) = 0;
	virtual Status disconnect(const std::string &agent) = 0;
	virtual Status unload(Registered *registered) = 0;

	virtual Status prepare(const Operation &operation, const Spans &local, const Spans &remote,
			       const std::string &agent, Handle *&handle,
			       const Options *options) const = 0;
	virtual Status post(const Operation &operation, const Spans &local, const Spans &remote,
			    const std::string &agent, Handle *&handle,
			    const Options *options) const = 0;
	virtual Status check(Handle *handle) const = 0;
	virtual Status release(Handle *handle) const = 0;

	virtual Status view_remote(const List<RemoteSpan> &, void *&, const Options *) const
	{
		return UNSUPPORTED;
	}
	virtual Status view_local(const Spans &, void *&, const Options *) const
	{
		return UNSUPPORTED;
	}
	virtual void release_view(void *) const
	{
	}

	virtual Status describe_memory(const Registered *registered, std::string &text) const = 0;
	virtual Status describe_agent(std::string &text) const = 0;
	virtual Status load_agent(const std::string &agent, const std::string &text) = 0;
	virtual Status load_remote(const DescribedSpan &span, const Memory &memory,
				   const std::string &agent, Registered *&registered) = 0;
	virtual Status load_local(Registered *input, Registered *&registered) = 0;

	virtual Status take_notifications(Notifications &notifications) = 0;
	virtual Status notify(const std::string &agent, const std::string &text) const = 0;

	virtual Status query(const List<DescribedSpan> &,
			     std::vector<std::optional<Settings>> &) const
	{
		return UNSUPPORTED;
	}
	virtual Status estimate(const Operation &, const Spans &, const Spans &,
				const std::string &, Handle *const &, std::chrono::microseconds &,
				std::chrono::microseconds &, int &, const void *) const
	{
		return UNSUPPORTED;
	}
};

/* What nixl_plugin_init() returns. */
struct Plugin {
	int api_version;
	Backend *(*open)(const Start *start);
	void (*close)(Backend *backend);
	const char *(*get_name)();
	const char *(*get_version)();
	Settings (*get_settings)();
	Memories (*get_memories)();
};

} /* namespace nixl */

#endif
