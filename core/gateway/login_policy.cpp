#include "core/gateway/login_policy.hpp"

namespace petrel {
namespace {

bool exclude_each_other(SessionPolicy policy, const Identity& a, const Identity& b) {
    if (a.device() == b.device()) return true;
    if (policy == SessionPolicy::kSingle) return true;
    return policy == SessionPolicy::kOnePerClass && a.device_class() == b.device_class();
}

}  // namespace

LoginDecision decide_login(SessionPolicy policy, const LoginAsk& ask,
                           const std::vector<LiveSession>& live) {
    LoginDecision decision;
    for (const LiveSession& other : live) {
        if (!exclude_each_other(policy, *ask.identity, *other.identity)) continue;
        if (ask.generation != 0 && ask.generation < other.generation) {
            decision.losers.clear();
            decision.code = static_cast<int>(Errc::kSuperseded);
            decision.retry = false;
            decision.message = "a newer login of this account is online";
            return decision;
        }
        if (ask.connection < other.connection) {
            decision.losers.clear();
            decision.code = static_cast<int>(Errc::kSuperseded);
            decision.retry = true;
            decision.message = "a session on a newer connection is online";
            // Not returned yet: a final refusal by another session wins over a repeatable one.
            continue;
        }
        if (decision.code == 0) decision.losers.push_back(other);
    }
    return decision;
}

}  // namespace petrel
