-- Writing the body.
local support, _, natives = ...
local ngx = ngx
local type, error, select = type, error, select
local native_flush, has_sent, wait_for = natives.flush, natives.has_sent, support.wait

-- C functions, so that a wrong argument is reported under its own name.
ngx.say, ngx.print, ngx.eof = natives.say, natives.print, natives.eof

function ngx.flush(...)
    local n = select("#", ...)
    if n > 1 then
        error("attempt to pass " .. n .. " arguments, but accepted 0 or 1", 2)
    end
    local wait = ...
    if n == 1 and type(wait) ~= "boolean" then
        local kind = wait == nil and "nil" or type(wait)
        support.argument_error(1, "boolean expected, got " .. kind)
    end
    local done, err = native_flush(wait or false)
    if done == 2 then
        wait_for()
        return has_sent()
    elseif done then
        return done
    end
    return nil, err
end
