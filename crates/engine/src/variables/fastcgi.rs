//! Variables about the script that a FastCGI server is to run.

use super::{Variable, read};
use crate::modules::proxy::cgi;

pub(super) const VARIABLES: &[Variable] = &[
    read(
        "fastcgi_script_name",
        "The URI, or of what fastcgi_split_path_info splits it into the script's name; with fastcgi_index behind a slash at its \
         end.",
        cgi::append_script_name,
    ),
    read(
        "fastcgi_path_info",
        "What follows the script's name in the URI, as fastcgi_split_path_info says.",
        cgi::append_path_info,
    ),
];
