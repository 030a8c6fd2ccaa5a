//! The text of a join token: its id, its secret, its role, and the authority of its cluster, so that
//! whoever uses it knows whom it hands the secret to.
//!
//! `cos-join-<role>-<id>-<secret>-<authority>`, the last three in hexadecimal. The cluster stores
//! only the hash of the secret.

use aws_lc_rs::digest::{SHA256, digest};
use cos_platform::tls::Role;

const PREFIX: &str = "cos-join-";

/// How many bytes the secret has.
const SECRET_BYTES: usize = 16;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The role that it gives.
    pub role: Role,
    /// Its id, under which the cluster knows it.
    pub id: u128,
    /// What proves it.
    pub secret: [u8; SECRET_BYTES],
    /// The SHA-256 of the root certificate of its cluster.
    pub authority: [u8; 32],
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({} {:032x}, secret not shown)", self.role.name(), self.id)
    }
}

/// Text that is no join token; the words say what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no join token: {0}; a token is printed by `cos token create -role server|client` and \
     begins with `{PREFIX}`"
)]
pub struct NoToken(&'static str);

impl Token {
    /// Reads a token.
    pub fn parse(text: &str) -> Result<Self, NoToken> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(NoToken("it begins otherwise"))?;
        let parts: Vec<&str> = rest.split('-').collect();
        let [role, id, secret, authority] = parts[..] else {
            return Err(NoToken("it does not have four parts"));
        };
        Ok(Self {
            role: Role::parse(role).ok_or(NoToken("its role is neither server nor client"))?,
            id: u128::from_be_bytes(read(id).ok_or(NoToken("its id is damaged"))?),
            secret: read(secret).ok_or(NoToken("its secret is damaged"))?,
            authority: read(authority).ok_or(NoToken("the name of its authority is damaged"))?,
        })
    }

    /// Writes a token, its secret included.
    pub fn to_text(&self) -> String {
        format!(
            "{PREFIX}{}-{:032x}-{}-{}",
            self.role.name(),
            self.id,
            hex(&self.secret),
            hex(&self.authority)
        )
    }

    /// What the cluster stores instead of the secret.
    pub fn secret_hash(&self) -> [u8; 32] {
        secret_hash(&self.secret)
    }
}

/// The hash of a secret. Secrets are drawn and long, so one round is enough.
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    digest(&SHA256, secret).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let text = text.as_bytes();
    if text.len() != 2 * LENGTH {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(id: u128, secret: [u8; 16], authority: [u8; 32], server: bool) {
            let role = if server { Role::Server } else { Role::Client };
            let token = Token { role, id, secret, authority };
            prop_assert_eq!(Token::parse(&token.to_text()), Ok(token));
        }

        #[test]
        fn no_text_panics_the_reader(text in "\\PC*", tail in "[-0-9a-fäx]{0,200}") {
            drop(Token::parse(&text));
            drop(Token::parse(&format!("{PREFIX}{tail}")));
            drop(Token::parse(&format!("{PREFIX}client-{tail}")));
        }
    }

    #[test]
    fn a_token_that_was_cut_or_mistyped_says_what_is_wrong() {
        let token =
            Token { role: Role::Client, id: 7, secret: [1; 16], authority: [2; 32] }.to_text();
        for (text, expected) in [
            (String::new(), "it begins otherwise"),
            (token[..token.len() - 1].to_owned(), "the name of its authority is damaged"),
            (token.replace("client", "admin"), "its role is neither server nor client"),
            (token.replace("-01", "-x1"), "its secret is damaged"),
            (format!("{token}-1"), "it does not have four parts"),
        ] {
            assert_eq!(Token::parse(&text), Err(NoToken(expected)), "{text}");
        }
    }
}
