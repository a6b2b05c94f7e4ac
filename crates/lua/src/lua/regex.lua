-- ngx.re: matching and replacing.
local support, address = ...
local ngx = ngx
local ffi = require "ffi"
local bit = require "bit"
local str, gc = ffi.string, ffi.gc
local bor, lshift = bit.bor, bit.lshift
local byte, sub, type, tostring, tonumber, error = string.byte, string.sub, type, tostring, tonumber, error
local setmetatable, concat = setmetatable, table.concat
local new_table = require "table.new"
local bridge = support.bridge

ffi.cdef [[
typedef struct {
    const size_t *offsets;
    uint32_t groups;
    uint32_t name_count;
    uint32_t name_entry_len;
    const unsigned char *names;
} pm_regex;
typedef struct pm_template pm_template;
typedef struct {
    pm_regex *(*compile)(pm_bridge *, const char *, size_t, uint32_t);
    int (*exec)(pm_regex *, const char *, size_t, size_t);
    void (*free)(pm_regex *);
    pm_template *(*compile_template)(pm_bridge *, const char *, size_t);
    void (*free_template)(pm_template *);
    int (*substitute)(pm_bridge *, pm_regex *, pm_template *, const char *, size_t, int);
} pm_regex_api;
]]
local C = ffi.cast("const pm_regex_api *", address)
local c_compile, c_exec, c_free = C.compile, C.exec, C.free
local c_compile_template, c_free_template, c_substitute = C.compile_template, C.free_template, C.substitute

-- The bits of re/pattern.rs, by letter; `o` is used here only.
local BITS = {}
for letter, place in pairs { a = 0, d = 1, D = 2, i = 3, j = 4, J = 5, m = 6, s = 7, u = 8, U = 9, x = 10, o = 16 } do
    BITS[letter] = lshift(1, place)
end
local DUPLICATE_NAMES, ONCE = BITS.D, BITS.o
local ALL_BUT_ONCE = bit.bnot(ONCE)

-- A cache that forgets what was not used lately: an entry that the young half lacks is looked up in the old one, and a
-- full young half becomes the old one. A `size` of 0 keeps nothing.
local function new_cache(size)
    local half = math.ceil(size / 2)
    local young, old, count = {}, {}, 0
    local function put(key, value)
        if half == 0 then
            return
        end
        if count >= half then
            old, young, count = young, {}, 0
        end
        young[key] = value
        count = count + 1
    end
    local function get(key)
        local value = young[key]
        if value == nil then
            value = old[key]
            if value ~= nil then
                put(key, value)
            end
        end
        return value
    end
    return get, put
end

local cache_size = support.settings.regex_cache_entries
local known_options = {}
-- One cache of patterns for each set of options.
local caches = {}
local template_of, keep_template = new_cache(cache_size)

local function parse_options(options)
    local flags = 0
    for at = 1, #options do
        local letter = sub(options, at, at)
        local flag = BITS[letter]
        if not flag then
            error('unknown flag "' .. letter .. '" (flags "' .. options .. '")', 4)
        end
        flags = bor(flags, flag)
    end
    known_options[options] = flags
    return flags
end

local function fresh(pattern, flags)
    local regex = c_compile(bridge, pattern, #pattern, bit.band(flags, ALL_BUT_ONCE))
    if regex == nil then
        return nil, str(bridge.text, bridge.text_len)
    end
    return gc(regex, c_free)
end

-- The compiled pattern and its flags, or nil and an error.
local function compiled(pattern, options)
    if type(pattern) ~= "string" then
        pattern = tostring(pattern)
    end
    if not options then
        local regex, err = fresh(pattern, 0)
        return regex, err or 0
    end
    local flags = known_options[options] or parse_options(options)
    if bit.band(flags, ONCE) == 0 then
        local regex, err = fresh(pattern, flags)
        return regex, err or flags
    end
    local cache = caches[options]
    if not cache then
        local get, put = new_cache(cache_size)
        cache = { get = get, put = put }
        caches[options] = cache
    end
    local regex, err = cache.get(pattern)
    if not regex then
        regex, err = fresh(pattern, flags)
        if not regex then
            return nil, err
        end
        cache.put(pattern, regex)
    end
    return regex, flags
end

-- Ends the use of a pattern, and returns the rest: one that is not kept is freed now, as the collector does not see its size.
local function used(regex, flags, ...)
    if bit.band(flags, ONCE) == 0 then
        gc(regex, nil)
        c_free(regex)
    end
    return ...
end

local UNSET = -1

-- A group's text; false for an unset one.
local function group(regex, subject, number, found)
    if number >= found then
        return false
    end
    local from = tonumber(ffi.cast("ptrdiff_t", regex.offsets[number * 2]))
    if from == UNSET then
        return false
    end
    return sub(subject, from + 1, tonumber(regex.offsets[number * 2 + 1]))
end

local function name_groups(regex, groups, flags)
    local duplicates = bit.band(flags, DUPLICATE_NAMES) ~= 0
    local entry = regex.names
    for _ = 1, tonumber(regex.name_count) do
        local number = entry[0] * 256 + entry[1]
        local name = str(entry + 2)
        local text = groups[number]
        if not duplicates then
            groups[name] = text
        elseif text then
            local list = groups[name]
            if list then
                list[#list + 1] = text
            else
                groups[name] = { text }
            end
        end
        entry = entry + regex.name_entry_len
    end
end

local function collect(regex, subject, found, flags, groups)
    local count = tonumber(regex.groups)
    groups = groups or new_table(count, tonumber(regex.name_count))
    for number = 0, count do
        groups[number] = group(regex, subject, number, found)
    end
    if regex.name_count > 0 and count > 0 then
        name_groups(regex, groups, flags)
    end
    return groups
end

-- The start that ctx.pos asks for, counted from 0.
local function start(ctx)
    local pos = ctx and ctx.pos
    if not pos or pos <= 0 then
        return 0
    end
    return pos - 1
end

local function failure(number)
    return "pcre_exec() failed: " .. number
end

local re = {}

local function match_in(regex, flags, subject, ctx, groups)
    local found = c_exec(regex, subject, #subject, start(ctx))
    if found == 0 then
        return nil
    elseif found < 0 then
        return nil, failure(found)
    end
    if ctx then
        ctx.pos = tonumber(regex.offsets[1]) + 1
    end
    local result = collect(regex, subject, found, flags, groups)
    return result
end

function re.match(subject, pattern, options, ctx, groups)
    if type(subject) ~= "string" then
        subject = tostring(subject)
    end
    local regex, flags = compiled(pattern, options)
    if not regex then
        return nil, flags
    end
    return used(regex, flags, match_in(regex, flags, subject, ctx, groups))
end

local function find_in(regex, subject, ctx, nth)
    local found = c_exec(regex, subject, #subject, start(ctx))
    if found == 0 then
        return nil
    elseif found < 0 then
        return nil, nil, failure(found)
    end
    local offsets = regex.offsets
    if ctx then
        ctx.pos = tonumber(offsets[1]) + 1
    end
    if not nth or nth < 0 then
        nth = 0
    end
    if nth > regex.groups then
        return nil, nil, "nth out of bound"
    end
    if nth >= found then
        return nil, nil
    end
    local from = tonumber(ffi.cast("ptrdiff_t", offsets[nth * 2]))
    if from == UNSET then
        return nil, nil
    end
    return from + 1, tonumber(offsets[nth * 2 + 1])
end

function re.find(subject, pattern, options, ctx, nth)
    if type(subject) ~= "string" then
        subject = tostring(subject)
    end
    local regex, flags = compiled(pattern, options)
    if not regex then
        return nil, nil, flags
    end
    return used(regex, flags, find_in(regex, subject, ctx, nth))
end

local function end_matches(self, ...)
    local regex = self.regex
    self.pos, self.regex, self.subject = nil, nil, nil
    return used(regex, self.flags, ...)
end

local function next_match(self)
    local regex, pos, subject = self.regex, self.pos, self.subject
    if not pos then
        return nil
    end
    local found = c_exec(regex, subject, #subject, pos)
    if found == 0 then
        return end_matches(self, nil)
    elseif found < 0 then
        return end_matches(self, nil, failure(found))
    end
    local from, to = tonumber(regex.offsets[0]), tonumber(regex.offsets[1])
    local groups = collect(regex, subject, found, self.flags)
    -- After an empty match the search continues one byte further, so that it ends.
    self.pos = from == to and to + 1 or to
    if self.pos > #subject and from == to then
        return end_matches(self, groups)
    end
    return groups
end

local iterator = { __call = next_match }
-- After so many iterators those that are left are collected.
local ITERATORS = 1000
local iterators = 0

function re.gmatch(subject, pattern, options)
    if type(subject) ~= "string" then
        subject = tostring(subject)
    end
    local regex, flags = compiled(pattern, options)
    if not regex then
        return nil, flags
    end
    -- Those of iterators that are left before their end are the collector's.
    iterators = iterators + 1
    if iterators % ITERATORS == 0 then
        collectgarbage()
    end
    return setmetatable({ regex = regex, flags = flags, subject = subject, pos = 0 }, iterator)
end

local function replace_by_function(subject, regex, flags, replace, global)
    local out, n, count, copied, at = {}, 0, 0, 0, 0
    while at <= #subject do
        local found = c_exec(regex, subject, #subject, at)
        if found == 0 then
            break
        elseif found < 0 then
            return nil, nil, failure(found)
        end
        -- Read before the function is called: it may use the same pattern.
        local from, to = tonumber(regex.offsets[0]), tonumber(regex.offsets[1])
        out[n + 1] = sub(subject, copied + 1, from)
        out[n + 2] = tostring(replace(collect(regex, subject, found, flags)))
        n, count, copied = n + 2, count + 1, to
        at = from == to and to + 1 or to
        if not global then
            break
        end
    end
    if count == 0 then
        return subject, 0
    end
    out[n + 1] = sub(subject, copied + 1)
    return concat(out), count
end

local function replace_in(regex, flags, subject, replace, global)
    if type(subject) ~= "string" then
        subject = tostring(subject)
    end
    if type(replace) == "function" then
        return replace_by_function(subject, regex, flags, replace, global)
    end
    if type(replace) ~= "string" then
        replace = tostring(replace)
    end
    local template = template_of(replace)
    if not template then
        template = c_compile_template(bridge, replace, #replace)
        if template == nil then
            return nil, nil, "failed to compile the replacement template"
        end
        template = gc(template, c_free_template)
        keep_template(replace, template)
    end
    local count = c_substitute(bridge, regex, template, subject, #subject, global and 1 or 0)
    if count < 0 then
        return nil, nil, failure(count)
    elseif count == 0 then
        return subject, 0
    end
    local out = str(bridge.text, bridge.text_len)
    return out, count
end

-- Called in tail position, so that an error of the options is reported at the right level.
local function replace_any(subject, pattern, replace, options, global)
    local regex, flags = compiled(pattern, options)
    if not regex then
        return nil, nil, flags
    end
    return used(regex, flags, replace_in(regex, flags, subject, replace, global))
end

function re.sub(subject, pattern, replace, options)
    return replace_any(subject, pattern, replace, options, false)
end

function re.gsub(subject, pattern, replace, options)
    return replace_any(subject, pattern, replace, options, true)
end

ngx.re = re
