//! The words of the error log for a handshake that failed: which side, and why.

use rustls::{AlertDescription, Error, PeerIncompatible};

/// The peer of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakePeer {
    /// A client, of a server of ours.
    Client,
    /// An upstream, of ours as its client.
    Upstream,
}

/// Returns the words.
pub fn fault_text(error: &Error, peer: HandshakePeer) -> String {
    let (peer, own) = match peer {
        HandshakePeer::Client => ("client", "server"),
        HandshakePeer::Upstream => ("upstream", "client"),
    };
    match error {
        Error::AlertReceived(alert) => {
            format!("{peer} sent alert {}: {}", u8::from(*alert), alert_name(*alert))
        }
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            format!("{peer} offers no configured cipher suite")
        }
        Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon) => {
            format!("{peer} offers no configured curve")
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            // Older protocols have no such extension.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        ) => format!("{peer} offers no configured protocol"),
        Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => {
            format!("{peer} accepts no signature of the configured certificates")
        }
        Error::NoApplicationProtocol => format!("{peer} offers no known protocol by ALPN"),
        Error::PeerIncompatible(why) => format!("{peer} is incompatible: {why:?}"),
        Error::PeerMisbehaved(why) => format!("{peer} breaks the protocol: {why:?}"),
        Error::InvalidMessage(why) => format!("{peer} sent a broken message: {why:?}"),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            format!("{peer} sent a message at the wrong time")
        }
        Error::General(text) => format!("{own} failed: {text}"),
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
        let text = |alert| fault_text(&Error::AlertReceived(alert), HandshakePeer::Client);
        assert_eq!(text(AlertDescription::UnknownCA), "client sent alert 48: unknown_ca");
        assert_eq!(text(AlertDescription::CertificateUnknown), "client sent alert 46: certificate_unknown");
    }
}
