//! The configuration of a world, as text and as the numbers that checks use.

use super::switching::SIDES;
use sim::Seeded;

/// The settings that a seed draws. Times are in ms.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) header_ms: u64,
    pub(super) body_ms: u64,
    pub(super) send_ms: u64,
    pub(super) idle_ms: u64,
    pub(super) connect_ms: u64,
    pub(super) read_ms: u64,
    pub(super) up_send_ms: u64,
    pub(super) buffering: bool,
    pub(super) request_buffering: bool,
    /// `proxy_max_temp_file_size`, in bytes.
    pub(super) file: u64,
    /// How large a proxy buffer is, in bytes; there are four.
    pub(super) buffer: u64,
    /// Idle connections to origins; 0 is none.
    pub(super) keepalive: usize,
    pub(super) served: u32,
    pub(super) old_version: bool,
    pub(super) ignores_abort: bool,
    pub(super) non_idempotent: bool,
    /// `proxy_limit_rate` and `limit_rate`, in bytes a second; 0 is none.
    pub(super) read_rate: u64,
    pub(super) send_rate: u64,
    /// A switch leads to one of two groups.
    pub(super) switched: bool,
    /// Clients pause between head and body, and tables are published often.
    pub(super) dawdling: bool,
}

/// How many origins there are.
pub(super) const ORIGINS: usize = 3;

impl Settings {
    pub(super) fn draw(seeded: &mut Seeded) -> Settings {
        let ms = |seeded: &mut Seeded| *seeded.one_of(&[120, 250, 400, 900]);
        Settings {
            header_ms: ms(seeded),
            body_ms: ms(seeded),
            send_ms: ms(seeded),
            idle_ms: ms(seeded),
            connect_ms: ms(seeded),
            read_ms: ms(seeded),
            up_send_ms: ms(seeded),
            buffering: seeded.chance(65),
            request_buffering: seeded.chance(60),
            file: *seeded.one_of(&[0, 20_000, 1_000_000]),
            buffer: *seeded.one_of(&[1_024, 4_096, 16_384]),
            keepalive: *seeded.one_of(&[0, 1, 2, 8]),
            served: *seeded.one_of(&[1, 2, 1_000]),
            old_version: seeded.chance(10),
            ignores_abort: seeded.chance(15),
            non_idempotent: seeded.chance(15),
            read_rate: if seeded.chance(8) { 60_000 } else { 0 },
            send_rate: if seeded.chance(8) { 60_000 } else { 0 },
            // Not drawn, so that the worlds without a switch stay what they were.
            switched: seeded.clone().fork().chance(30),
            dawdling: false,
        }
    }

    /// Draws those of a world in which most requests wait for their bodies before they ask their switch.
    pub(super) fn undecided(seeded: &mut Seeded) -> Settings {
        let drawn = Settings::draw(seeded);
        Settings {
            switched: true,
            dawdling: true,
            request_buffering: seeded.chance(85),
            body_ms: 900,
            ..drawn
        }
    }

    /// Returns how many groups of origins there are.
    pub(super) fn groups(&self) -> usize {
        if self.switched { SIDES.len() } else { 1 }
    }

    /// Returns true if anything is slowed down on purpose.
    pub(super) fn is_slowed(&self) -> bool {
        self.read_rate + self.send_rate > 0
    }

    /// Returns the text that the product reads.
    pub(super) fn text(&self) -> String {
        let on = |on: bool| if on { "on" } else { "off" };
        let keepalive = match self.keepalive {
            // It is on by default.
            0 => "keepalive 0;".to_owned(),
            count => format!("keepalive {count}; keepalive_requests {}; keepalive_timeout 20s;", self.served),
        };
        let servers = |side: usize| -> String {
            (1..=ORIGINS)
                .map(|at| format!("server 10.0.{side}.{at}:80 max_fails=2 fail_timeout=1s;"))
                .collect()
        };
        let names = if self.switched { &SIDES[..] } else { &["origins"] };
        let groups: String = names
            .iter()
            .enumerate()
            .map(|(side, name)| format!("upstream {name} {{ {} {keepalive} }}\n", servers(side)))
            .collect();
        let (switch, target) = match self.switched {
            true => ("switch $host $side { default blue; targets blue green; state memory; }", "$side"),
            false => ("", "origins"),
        };
        let version = if self.old_version { "1.0" } else { "1.1" };
        let connection = if self.old_version { "close" } else { "\"\"" };
        format!(
            "error_log /nowhere info;
            events {{}}
            http {{
                access_log off;
                client_header_timeout {}ms; client_body_timeout {}ms; send_timeout {}ms; keepalive_timeout {}ms;
                client_body_buffer_size 2k; lingering_timeout 300ms; lingering_time 2s;
                proxy_connect_timeout {}ms; proxy_read_timeout {}ms; proxy_send_timeout {}ms;
                proxy_buffering {}; proxy_request_buffering {};
                proxy_buffer_size {size}; proxy_buffers 4 {size}; proxy_busy_buffers_size {size};
                proxy_max_temp_file_size {}; proxy_temp_file_write_size {size};
                proxy_ignore_client_abort {};
                proxy_next_upstream error timeout invalid_header{};
                proxy_limit_rate {}; limit_rate {};
                {groups} {switch}
                server {{
                    listen 127.0.0.1:80;
                    location / {{
                        proxy_pass http://{target};
                        proxy_http_version {version};
                        proxy_set_header Connection {connection};
                    }}
                }}
            }}",
            self.header_ms,
            self.body_ms,
            self.send_ms,
            self.idle_ms,
            self.connect_ms,
            self.read_ms,
            self.up_send_ms,
            on(self.buffering),
            on(self.request_buffering),
            if self.file == 0 { 0 } else { self.file.max(self.buffer) },
            on(self.ignores_abort),
            if self.non_idempotent { " non_idempotent" } else { "" },
            self.read_rate,
            self.send_rate,
            size = self.buffer,
        )
    }
}
