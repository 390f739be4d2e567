//! The one checksum of the log: CRC-32C, as in iSCSI, SCTP and ext4.

/// CRC-32C (Castagnoli) of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).expect("a 32-bit checksum has 32 bits")
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn it_agrees_with_the_published_check_value() {
        // Catalogue of parametrised CRC algorithms, CRC-32/ISCSI.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn it_agrees_with_the_vectors_of_rfc_3720() {
        // RFC 3720, B.4; the checksums there are printed in the order of transmission.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46DD_794E);
        let falling: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&falling), 0x113F_DB5C);
    }

    #[test]
    fn every_alignment_and_length_gives_what_the_bitwise_definition_gives() {
        let bytes: Vec<u8> = (0..600_u32).map(|i| (i * 37 + 11) as u8).collect();
        for start in 0..17 {
            for end in (start..bytes.len()).step_by(13) {
                assert_eq!(crc32c(&bytes[start..end]), bitwise(&bytes[start..end]));
            }
        }
    }

    /// The definition: reflected, polynomial 0x1EDC6F41, all ones before and after.
    fn bitwise(bytes: &[u8]) -> u32 {
        let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 }
            })
        });
        !crc
    }
}
