-- The action `lua.identity URL`, which asks the Identity service about a request.
--
-- Sets `txn.identity_status` to the status of the answer, or to 503 if there is no usable one. After a 2xx answer that
-- is 200, and `txn.id`, `txn.email`, `txn.name`, `txn.session_id`, `txn.token_exp`, `txn.token_id` and `txn.token_issued_at` are set from the
-- headers of the answer; one that the answer does not have stays unset.

-- The headers that may contain a token. The client's other headers are not sent to Identity.
local FORWARDED = { "authorization", "cookie", "sec-websocket-protocol" }

local VARIABLES = {
    ["user-id"] = "txn.id",
    ["user-email"] = "txn.email",
    ["user-name"] = "txn.name",
    ["user-session-id"] = "txn.session_id",
    ["user-token-exp"] = "txn.token_exp",
    ["user-token-id"] = "txn.token_id",
    ["user-token-issued-at"] = "txn.token_issued_at",
}

-- The lines of a header. HAProxy counts them from 0 in requests and from 1 in answers.
local function lines(headers, name)
    local found = {}
    for _, value in pairs(headers[name] or {}) do
        found[#found + 1] = value
    end
    return found
end

local function ask(txn, url)
    local request = txn.http:req_get_headers()
    -- The query may contain the token. It is not part of this request, so a header contains the original target.
    local headers = {
        ["x-forwarded-method"] = { txn.f:method() },
        ["x-forwarded-uri"] = { txn.f:url() },
    }
    for _, name in ipairs(FORWARDED) do
        local values = lines(request, name)
        if #values > 0 then
            headers[name] = values
        end
    end

    -- An Identity service that does not respond must not block every connection.
    local answer = core.httpclient():get({ url = url, headers = headers, timeout = 5000 })
    if not answer or not answer.status then
        return 503
    end
    if answer.status < 200 or answer.status > 299 then
        return answer.status
    end
    for name, variable in pairs(VARIABLES) do
        local values = lines(answer.headers, name)
        -- The gateway cannot decide which of them is right.
        if #values > 1 then
            return 503
        end
        if values[1] then
            txn:set_var(variable, values[1])
        end
    end
    return 200
end

core.register_action("identity", { "http-req" }, function(txn, url)
    txn:set_var("txn.identity_status", ask(txn, url))
end, 1)
