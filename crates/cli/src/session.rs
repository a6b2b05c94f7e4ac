//! The server that a verb talks to, and the switch that is meant.
//!
//! Owns the options that all verbs share.

use crate::client::{self, ApiClient, Call};
use crate::endpoint;
use crate::error::{Code, Error};
use crate::tls_options::TlsOptions;
use clap::Args;
use control::api::types::{Groups, Switch, Switches};
use engine::modules::switch::GROUPS_NAME;
use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};

/// How the server is found, and in which form its answers are printed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which server")]
pub(crate) struct GlobalOptions {
    /// Prefix for relative paths, as given to the server; by default the environment variable POINTSMAN_PREFIX
    #[arg(short = 'p', value_name = "PREFIX", global = true)]
    prefix: Option<OsString>,
    /// Configuration file, as given to the server
    #[arg(short = 'c', value_name = "FILE", global = true)]
    conf_file: Option<OsString>,
    /// Directives in front of the configuration file, as given to the server
    #[arg(short = 'g', value_name = "DIRECTIVES", global = true, allow_hyphen_values = true)]
    globals: Option<OsString>,
    /// Control socket (unix:PATH), or the https:// or http:// address of a location with control_api; without it and -p, from
    /// the environment variable POINTSMAN_CONTROL. POINTSMAN_TOKEN holds the token for the address
    #[arg(long, value_name = "ADDRESS", global = true)]
    control: Option<String>,
    #[command(flatten)]
    tls: TlsOptions,
    /// Name of the switch, if there are several
    #[arg(long, value_name = "NAME", global = true)]
    switch: Option<String>,
    /// Print the API's answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A server that can be reached, and the switch that is meant.
pub(crate) struct Session {
    pub(crate) client: ApiClient,
    pub(crate) json: bool,
    switch: Option<String>,
    /// Whether there are several, once that was asked.
    are_several: OnceCell<bool>,
}

impl GlobalOptions {
    /// Returns these options with the prefix that the environment names, if the command line names no place.
    pub(crate) fn with_environment(&self) -> GlobalOptions {
        let variable = std::env::var_os("POINTSMAN_PREFIX").filter(|value| !value.is_empty());
        GlobalOptions { prefix: self.prefix.clone().or(variable), ..self.clone() }
    }

    /// Returns `-p`, `-c` and `-g` as they were given.
    pub(crate) fn configuration(&self) -> (Option<&OsStr>, Option<&OsStr>, Option<&OsStr>) {
        (self.prefix.as_deref(), self.conf_file.as_deref(), self.globals.as_deref())
    }

    /// Returns nginx's flags as they were given.
    pub(crate) fn command_line(&self) -> Vec<OsString> {
        let (prefix, conf_file, globals) = self.configuration();
        let given = [("-p", prefix), ("-c", conf_file), ("-g", globals)];
        let given = given.into_iter().filter_map(|(flag, value)| Some([flag.into(), value?.to_owned()]));
        given.flatten().collect()
    }

    /// Returns a session with the server; nothing is sent yet.
    pub(crate) fn session(&self) -> Result<Session, Error> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        // What the command line says about the place outweighs the environment.
        let is_placed = self.control.is_some() || self.prefix.is_some();
        let control = variable("POINTSMAN_CONTROL").filter(|_| !is_placed);
        let control =
            control.map(|text| text.to_string_lossy().into_owned()).or_else(|| self.control.clone());
        let prefix = self.prefix.clone().or_else(|| variable("POINTSMAN_PREFIX"));
        let endpoint = endpoint::find(
            control.as_deref(),
            prefix.as_deref(),
            self.conf_file.as_deref(),
            self.globals.as_deref(),
        )?;
        let token = std::env::var("POINTSMAN_TOKEN").ok().filter(|token| !token.is_empty());
        let client = ApiClient::new(endpoint, token, &self.tls)?;
        Ok(Session { client, json: self.json, switch: self.switch.clone(), are_several: OnceCell::new() })
    }
}

impl Session {
    /// Returns the name given with `--switch`.
    pub(crate) fn switch_name(&self) -> Option<&str> {
        self.switch.as_deref()
    }

    /// Returns all switches, or the one named with `--switch`.
    pub(crate) fn switches(&self) -> Result<Vec<Switch>, Error> {
        match &self.switch {
            Some(name) => {
                let path = format!("/v1/switches/{}", client::encoded(name));
                Ok(vec![self.client.ask(&Call::get(path))?.0])
            }
            None => Ok(self.client.ask::<Switches>(&Call::get("/v1/switches"))?.0.switches),
        }
    }

    /// Returns the names of all switches.
    pub(crate) fn switch_names(&self) -> Result<Vec<String>, Error> {
        Ok(self.switches()?.into_iter().map(|switch| switch.name).collect())
    }

    /// Returns the names of all switches, and that of the groups if an order has changed servers or groups.
    pub(crate) fn histories(&self) -> Result<Vec<String>, Error> {
        let mut names = self.switch_names()?;
        let groups = self.client.ask::<Groups>(&Call::get("/v1/groups"));
        if groups.is_ok_and(|(groups, _)| groups.revision > 0) {
            names.push(GROUPS_NAME.to_owned());
        }
        Ok(names)
    }

    /// Returns `--switch NAME `, if a command about this switch needs it.
    pub(crate) fn switch_option(&self, switch: &str) -> String {
        let are_several = || match self.client.ask::<Switches>(&Call::get("/v1/switches")) {
            Ok((found, _)) => found.switches.len() > 1,
            // More than needed does no harm.
            Err(_) => true,
        };
        let needed =
            switch == GROUPS_NAME || self.switch.is_some() || *self.are_several.get_or_init(are_several);
        if needed { format!("--switch {switch} ") } else { String::new() }
    }

    /// Returns true if `--switch` names the groups, which have servers and no keys.
    pub(crate) fn is_of_groups(&self) -> bool {
        self.switch.as_deref() == Some(GROUPS_NAME)
    }

    /// Fails if `--switch` names the groups: the verb is about keys.
    pub(crate) fn refuse_groups(&self) -> Result<(), Error> {
        match self.is_of_groups() {
            false => Ok(()),
            true => Err(Error::usage(
                format!("\"{GROUPS_NAME}\" has no keys: it has the servers of groups"),
                "pointsman server GROUP shows and changes them; history, diff, receipt, wait, undo, confirm, backup and watch take --switch groups",
            )),
        }
    }

    /// Returns the default of a switch, or nothing if the server does not answer.
    pub(crate) fn default_of(&self, switch: &str) -> Option<String> {
        let path = format!("/v1/switches/{}", client::encoded(switch));
        Some(self.client.ask::<Switch>(&Call::get(path)).ok()?.0.default)
    }

    /// Returns the API path of the switch named with `--switch`, or of the only one.
    pub(crate) fn switch_path(&self) -> Result<String, Error> {
        let name = match &self.switch {
            Some(name) => name.clone(),
            None => {
                let names = self.switch_names()?;
                let _ = self.are_several.set(names.len() > 1);
                match &names[..] {
                    [one] => one.clone(),
                    [] => {
                        return Err(Error::new(
                            Code::Refused,
                            "no_switch",
                            "the configuration has no switch",
                            "declare one: switch $host $live { default …; }",
                        ));
                    }
                    several => {
                        return Err(Error::usage(
                            "there are several switches",
                            format!("choose one with --switch: {}", several.join(", ")),
                        ));
                    }
                }
            }
        };
        Ok(format!("/v1/switches/{}", client::encoded(&name)))
    }
}
