"""Writes src/types/country/plans.rs from the metadata of libphonenumber.

    pip install phonenumbers && python3 scripts/numbering_plans.py > src/types/country/plans.rs
"""

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber

# Areas of countries that share a code with a larger one, where the metadata tells them by patterns alone.
AREAS = {
    "GG": ["441481"], "JE": ["441534"], "IM": ["441624"], "KZ": ["76", "77"], "VA": ["3906698"],
    "AX": ["35818"], "CC": ["6189162"], "CX": ["6189164"], "EH": ["2125288", "2125289"], "SJ": ["4779"],
    "YT": ["262269", "262639"], "BQ": ["5993", "5994", "5997"], "TA": ["2908"], "AC": ["247"], "XK": ["383"],
}
# Written as patterns there; this is what people dial.
ABROAD = {"AU": "0011", "BR": "00", "CL": "00", "CO": "00", "FI": "00", "HK": "001", "ID": "001", "IL": "00",
          "KR": "00", "KZ": "810", "RU": "810", "BY": "810", "TM": "810", "UZ": "00", "TJ": "810", "TH": "001",
          "SG": "001", "KH": "001", "CR": "00", "EC": "00", "MX": "00", "NI": "00", "UG": "000", "KE": "000",
          "TZ": "000", "NG": "009", "GY": "001", "CU": "119", "MN": "001", "PY": "00", "SB": "00", "PF": "00"}


def plain(text: str | None) -> bool:
    return bool(text) and text.isdigit()


def prefixes() -> dict[str, str]:
    found = {}
    for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        if regions[0] != "001":
            found[str(code)] = regions[0]
    for area in range(200, 1000):
        # No exchange of an area is told from another.
        number = PhoneNumber(country_code=1, national_number=int(f"{area}2345678"))
        region = phonenumbers.region_code_for_number(number)
        if region and region != "US":
            found[f"1{area}"] = region
    for region, areas in AREAS.items():
        for area in areas:
            found[area] = region
    return found


def main() -> None:
    known = prefixes()
    print("//! The countries' numbering, as `scripts/numbering_plans.py` wrote it from the metadata of libphonenumber.\n")
    print("use crate::types::country::Numbering;\n")
    print("const fn country(")
    print("    name: &'static str,")
    print("    code: &'static str,")
    print("    (trunk_prefix, international_prefix): (&'static str, &'static str),")
    print("    lengths: u32,")
    print(") -> Numbering {")
    print("    Numbering { name, code, trunk_prefix, international_prefix, lengths }")
    print("}\n")
    print("/// By their letters.")
    print("#[rustfmt::skip]")
    print("pub(super) const COUNTRIES: &[Numbering] = &[")
    for region in sorted(set(known.values())):
        data = PhoneMetadata.metadata_for_region(region)
        lengths = 0
        for kind in (data.fixed_line, data.mobile):
            for length in kind.possible_length if kind and kind.possible_length else ():
                if 0 < length < 16:
                    lengths |= 1 << length
        abroad = data.international_prefix
        abroad = ABROAD.get(region) or (abroad if plain(abroad) else data.preferred_international_prefix)
        abroad = abroad if plain(abroad) else "00"
        trunk = data.national_prefix if plain(data.national_prefix) else ""
        print(f'    country("{region}", "{data.country_code}", ("{trunk}", "{abroad}"), {lengths:#x}),')
    print("];\n")
    print("/// The digits that numbers begin with, by the digits; the longest decides.")
    print("#[rustfmt::skip]")
    print("pub(super) const PREFIXES: &[(&str, &str)] = &[")
    for prefix, region in sorted(known.items()):
        print(f'    ("{prefix}", "{region}"),')
    print("];")


main()
