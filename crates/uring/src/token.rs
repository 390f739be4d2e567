//! What a completion belongs to, folded into io_uring's 64 bits of user data.
//!
//! ```text
//!  63      48 47     32 31      16 15       0
//! ┌──────────┬─────────┬──────────┬──────────┐
//! │ COMMAND  │  epoch  │  source  │  index   │  a command of the front end
//! ├──────────┼─────────┴──────────┴──────────┤
//! │ TRANSFER │  slot                         │  a backing I/O of this ring
//! ├──────────┼───────────────────────────────┤
//! │ POST     │  lane                         │  the line to the helper of a lane
//! └──────────┴───────────────────────────────┘
//! ```

/// Names one command of the ring's user: something other than a backing I/O.
///
/// The ring hands it back unread; what the numbers mean is up to who made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandTag {
    /// Which life of the source, if numbers of sources are used again.
    pub epoch: u16,
    /// Who asked: a queue, an inbox.
    pub source: u16,
    /// The source's own number for it.
    pub index: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Transfer { slot: usize },
    Command(CommandTag),
    Post { lane: u16 },
}

impl Token {
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Transfer { slot } => {
                let slot = slot as u64;
                assert!(slot >> CLASS_SHIFT == 0, "slot {slot} does not fit user data");
                (TRANSFER << CLASS_SHIFT) | slot
            }
            Self::Post { lane } => (POST << CLASS_SHIFT) | u64::from(lane),
            Self::Command(tag) => {
                (COMMAND << CLASS_SHIFT)
                    | (u64::from(tag.epoch) << 32)
                    | (u64::from(tag.source) << 16)
                    | u64::from(tag.index)
            }
        }
    }

    /// # Panics
    /// If `user_data` was not made by [`Token::encode`]: then memory is corrupt.
    pub(crate) fn decode(user_data: u64) -> Self {
        let body = user_data & ((1 << CLASS_SHIFT) - 1);
        match user_data >> CLASS_SHIFT {
            TRANSFER => Self::Transfer { slot: usize::try_from(body).expect("a slot is an index") },
            POST => Self::Post { lane: body as u16 },
            COMMAND => Self::Command(CommandTag {
                epoch: (body >> 32) as u16,
                source: (body >> 16) as u16,
                index: body as u16,
            }),
            class => panic!("completion of unknown class {class:#x}"),
        }
    }
}

const CLASS_SHIFT: u32 = 48;
const TRANSFER: u64 = 1;
const COMMAND: u64 = 2;
const POST: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_its_way_through_the_kernel() {
        let corners = [0, 1, 0x7fff, u16::MAX];
        for (epoch, source, index) in corners
            .into_iter()
            .flat_map(|e| corners.map(|s| (e, s)))
            .flat_map(|(e, s)| corners.map(|i| (e, s, i)))
        {
            let token = Token::Command(CommandTag { epoch, source, index });
            assert_eq!(Token::decode(token.encode()), token);
        }
        for lane in corners {
            assert_eq!(Token::decode(Token::Post { lane }.encode()), Token::Post { lane });
        }
        for slot in [0, 1, u32::MAX as usize] {
            let token = Token::Transfer { slot };
            assert_eq!(Token::decode(token.encode()), token);
        }
    }

    #[test]
    #[should_panic(expected = "unknown class")]
    fn user_data_that_nobody_made_is_not_guessed_at() {
        let _ = Token::decode(0);
    }
}
