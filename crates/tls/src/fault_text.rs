//! The words of the error log for a handshake that failed: which side, and why.

use rustls::{AlertDescription, Error, PeerIncompatible};

/// Returns the words.
pub fn fault_text(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => {
            format!("client sent alert {}: {}", u8::from(*alert), alert_name(*alert))
        }
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "client offers no configured cipher suite".to_owned()
        }
        Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon) => {
            "client offers no configured curve".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // Older protocols have no such extension.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        ) => "client offers no configured protocol".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => {
            "client accepts no signature of the configured certificates".to_owned()
        }
        Error::NoApplicationProtocol => "client offers no known protocol by ALPN".to_owned(),
        Error::PeerIncompatible(why) => format!("client is incompatible: {why:?}"),
        Error::PeerMisbehaved(why) => format!("client breaks the protocol: {why:?}"),
        Error::InvalidMessage(why) => format!("client sent a broken message: {why:?}"),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "client sent a message at the wrong time".to_owned()
        }
        Error::General(text) => format!("server failed: {text}"),
        other => format!("{other}"),
    }
}

/// Returns the name of an alert as the RFC writes it.
fn alert_name(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut out = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 && !name[..at].ends_with(char::is_uppercase) {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        let text = |alert| fault_text(&Error::AlertReceived(alert));
        assert_eq!(text(AlertDescription::UnknownCA), "client sent alert 48: unknown_ca");
        assert_eq!(text(AlertDescription::CertificateUnknown), "client sent alert 46: certificate_unknown");
    }
}
