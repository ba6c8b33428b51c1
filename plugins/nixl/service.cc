/* SPDX-License-Identifier: Apache-2.0 */
#include "service.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "settings.h"

namespace kvtrans
{

namespace
{

/* Bytes of notifications that wait for the application; those of peers wait where they are beyond that. */
constexpr size_t arrived_len_max = size_t{ 64 } << 20;
constexpr int64_t goodbye_ns = 1000000000;
constexpr std::chrono::milliseconds accept_pause{ 100 };

/* The agent at the other end. False: who called is none. */
bool read_identity(const kvt_conn *conn, std::string &agent)
{
	size_t len = 0;
	const auto *bytes = static_cast<const char *>(kvt_conn_get_peer_identity(conn, &len));
	std::string_view identity(bytes == nullptr ? "" : bytes, len);
	if (!identity.starts_with(identity_prefix))
		return false;
	agent = identity.substr(std::strlen(identity_prefix));
	return true;
}

} /* namespace */

Service::Service(kvt_engine *engine)
    : engine_(engine), wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))
{
	if (wake_fd_ < 0) {
		kvt_engine_close(engine_);
		throw std::runtime_error(std::string("eventfd: ") + std::strerror(errno));
	}
	acceptor_ = std::thread(&Service::accept, this);
	server_ = std::thread(&Service::serve, this);
}

Service::~Service()
{
	wait_for_sent();
	{
		std::lock_guard guard(lock_);
		stopping_ = true;
	}
	kvt_engine_stop(engine_);
	wake();
	acceptor_.join();
	server_.join();
	std::unique_lock guard(lock_);
	idle_.wait(guard, [this] { return jobs_ == 0; });
	for (kvt_conn *conn : accepted_)
		closing_.push_back(conn);
	guard.unlock();
	close_conns();
	for (kvt_transfer *transfer : sent_)
		kvt_transfer_free(transfer);
	kvt_engine_close(engine_);
	close(wake_fd_);
}

void Service::wake()
{
	uint64_t one = 1;
	while (write(wake_fd_, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

void Service::run(std::function<void()> job)
{
	{
		std::lock_guard guard(lock_);
		jobs_++;
	}
	std::thread([this, job = std::move(job)] {
		job();
		std::lock_guard guard(lock_);
		jobs_--;
		idle_.notify_all();
	}).detach();
}

void Service::adopt(kvt_conn *conn)
{
	std::lock_guard guard(lock_);
	ended_.erase(conn);
	opened_.insert(conn);
}

void Service::close_later(kvt_conn *conn)
{
	{
		std::lock_guard guard(lock_);
		closing_.push_back(conn);
	}
	wake();
}

void Service::accept()
{
	for (;;) {
		kvt_conn *conn = nullptr;
		enum kvt_err err = kvt_conn_accept(engine_, KVT_FOREVER, &conn, nullptr);
		if (err == KVT_E_CLOSED || err == KVT_E_FORKED)
			return;
		if (err != KVT_OK) {
			std::this_thread::sleep_for(accept_pause);
			continue;
		}
		std::lock_guard guard(lock_);
		if (ended_.erase(conn) > 0) {
			closing_.push_back(conn);
			wake();
		} else {
			accepted_.insert(conn);
		}
	}
}

void Service::serve()
{
	for (;;) {
		bool full = is_full();
		pollfd fds[] = { { wake_fd_, POLLIN, 0 },
				 { kvt_engine_get_fd(engine_), POLLIN, 0 } };
		poll(fds, full ? 1 : 2, -1);
		uint64_t count = 0;
		if (read(wake_fd_, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
			complain(std::string("eventfd: ") + std::strerror(errno));
		{
			std::lock_guard guard(lock_);
			if (stopping_)
				return;
		}
		{
			std::lock_guard guard(events_lock_);
			take_events();
		}
		close_conns();
	}
}

bool Service::is_full()
{
	std::lock_guard guard(lock_);
	return arrived_len_ >= arrived_len_max;
}

void Service::take_events()
{
	while (!is_full() && take_event()) {
	}
}

/* One event. False: there is none. */
bool Service::take_event()
{
	kvt_event *event = nullptr;
	if (kvt_engine_get_event(engine_, &event) != KVT_OK)
		return false;
	if (event->kind == KVT_EVENT_CONN_ENDED) {
		end(event->conn);
	} else if (event->err ==
		   KVT_OK) { /* what failed is told to who posted it, as NIXL has it */
		std::string agent;
		std::string text(static_cast<const char *>(event->data), event->len);
		if (read_identity(event->conn, agent)) {
			std::lock_guard guard(lock_);
			arrived_len_ += agent.size() + text.size() + sizeof(arrived_[0]);
			arrived_.emplace_back(std::move(agent), std::move(text));
		}
	}
	kvt_event_free(event);
	return true;
}

void Service::end(kvt_conn *conn)
{
	std::lock_guard guard(lock_);
	if (opened_.count(conn) > 0)
		return;
	if (accepted_.erase(conn) > 0)
		closing_.push_back(conn);
	else
		ended_.insert(conn);
}

void Service::close_conns()
{
	std::vector<kvt_conn *> conns;
	{
		std::lock_guard guard(lock_);
		conns.swap(closing_);
	}
	for (kvt_conn *conn : conns) {
		/* No event is looked at meanwhile, and none of it comes later: what is at this place next is another. */
		std::lock_guard events(events_lock_);
		{
			std::lock_guard guard(lock_);
			opened_.erase(conn);
			ended_.erase(conn);
		}
		kvt_conn_close(conn);
	}
}

void Service::take_notifications(nixl::Notifications &notifications)
{
	if (std::unique_lock events(events_lock_, std::try_to_lock); events.owns_lock())
		take_events();
	std::lock_guard guard(lock_);
	if (arrived_len_ >= arrived_len_max)
		wake();
	arrived_len_ = 0;
	if (notifications.empty()) {
		notifications.swap(arrived_);
		return;
	}
	for (auto &notification : arrived_)
		notifications.push_back(std::move(notification));
	arrived_.clear();
}

void Service::watch(kvt_transfer *notification)
{
	std::vector<kvt_transfer *> over;
	{
		std::lock_guard guard(lock_);
		sent_.push_back(notification);
		while (!sent_.empty() && kvt_transfer_is_done(sent_.front())) {
			over.push_back(sent_.front());
			sent_.pop_front();
		}
	}
	for (kvt_transfer *transfer : over)
		kvt_transfer_free(transfer);
}

void Service::wait_for_sent()
{
	using clock = std::chrono::steady_clock;
	clock::time_point end = clock::now() + std::chrono::nanoseconds(goodbye_ns);
	for (kvt_transfer *transfer : sent_) {
		int64_t left = (end - clock::now()) / std::chrono::nanoseconds(1);
		kvt_transfer_wait(transfer, left > 0 ? left : KVT_NOWAIT);
	}
}

} /* namespace kvtrans */
