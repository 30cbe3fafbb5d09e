//! What made-up shoppers are called, where they live and what they buy.

use fastrand::Rng;

/// One of a list; the default only of an empty one.
pub(super) fn pick<T: Copy + Default>(rng: &mut Rng, list: &[T]) -> T {
    let at = rng.usize(..list.len().max(1));
    list.get(at).copied().unwrap_or_default()
}

/// A market: its currency with the digits of its minor unit, its tax, and how its addresses look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Market {
    pub(super) currency: &'static str,
    pub(super) exponent: u32,
    /// Tax in tenths of a percent.
    pub(super) tax_permille: i64,
    pub(super) tax_name: &'static str,
    pub(super) country: &'static str,
    pub(super) country_name: &'static str,
    pub(super) locale: &'static str,
    pub(super) first_names: &'static [&'static str],
    pub(super) last_names: &'static [&'static str],
    pub(super) streets: &'static [&'static str],
    pub(super) places: &'static [Place],
}

/// A city with its postal code and state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) city: &'static str,
    pub(super) postal_code: &'static str,
    pub(super) state: &'static str,
}

const fn place(city: &'static str, postal_code: &'static str, state: &'static str) -> Place {
    Place { city, postal_code, state }
}

/// Where shoppers come from, the commoner markets more than once.
pub(super) const MARKETS: &[Market] = &[
    UNITED_STATES,
    GERMANY,
    UNITED_STATES,
    FRANCE,
    UNITED_KINGDOM,
    UNITED_STATES,
    GERMANY,
    JAPAN,
    POLAND,
    KUWAIT,
];

const UNITED_STATES: Market = Market {
    currency: "USD",
    exponent: 2,
    tax_permille: 83,
    tax_name: "State Tax",
    country: "US",
    country_name: "United States",
    locale: "en-US",
    first_names: &["Amelia", "José", "Noah", "Zoë", "Priya", "Shaquille", "D'Andre", "Mary-Ann"],
    last_names: &["O'Neil", "Smith & Sons", "Nguyen", "Núñez", "Washington", "Kowalski"],
    streets: &["Harbor View Blvd", "N Elm St, Apt \"B\"", "County Road 12", "5th Avenue"],
    places: &[
        place("Boise", "83702", "ID"),
        place("San José", "95112", "CA"),
        place("Burlington", "05401-0012", "VT"),
        place("New Orleans", "70112", "LA"),
    ],
};

const GERMANY: Market = Market {
    currency: "EUR",
    exponent: 2,
    tax_permille: 190,
    tax_name: "Umsatzsteuer",
    country: "DE",
    country_name: "Deutschland",
    locale: "de-DE",
    first_names: &["Jürgen", "Käthe", "Emre", "Anneliese", "Björn", "Sören"],
    last_names: &["Müller-Lüdenscheidt", "Groß", "Öztürk", "Weiß", "von der Heide"],
    streets: &["Straße des 17. Juni", "Am Mühlbach", "Königsallee", "Hinter'm Deich"],
    places: &[
        place("Köln", "50667", "NW"),
        place("Görlitz", "02826", "SN"),
        place("München", "80331", "BY"),
    ],
};

const FRANCE: Market = Market {
    currency: "EUR",
    exponent: 2,
    tax_permille: 200,
    tax_name: "TVA",
    country: "FR",
    country_name: "France",
    locale: "fr-FR",
    first_names: &["Chloé", "Anaïs", "François", "Maëlys", "Loïc"],
    last_names: &["L'Hôpital", "Lefèvre", "Bœuf", "d'Arcy"],
    streets: &["rue de l'Église", "avenue du Général Leclerc", "place d'Armes"],
    places: &[place("Besançon", "25000", "BFC"), place("Saint-Étienne", "42000", "ARA")],
};

const UNITED_KINGDOM: Market = Market {
    currency: "GBP",
    exponent: 2,
    tax_permille: 200,
    tax_name: "VAT",
    country: "GB",
    country_name: "United Kingdom",
    locale: "en-GB",
    first_names: &["Siân", "Oliver", "Aoife", "Imogen"],
    last_names: &["Llewellyn", "Taylor", "McGonagall", "Ó Briain"],
    streets: &["The Old Bakery, Mill Lane", "Baker Street", "King's Road"],
    places: &[place("Ynys Môn", "LL77 7TW", "WLS"), place("Leeds", "LS1 4DY", "ENG")],
};

const JAPAN: Market = Market {
    currency: "JPY",
    exponent: 0,
    tax_permille: 100,
    tax_name: "消費税",
    country: "JP",
    country_name: "日本",
    locale: "ja-JP",
    first_names: &["葵", "陽翔", "さくら", "蓮"],
    last_names: &["佐藤", "髙橋", "渡邉", "小鳥遊"],
    streets: &["中央区銀座4丁目", "北区赤羽西1丁目", "下京区烏丸通"],
    places: &[place("東京都", "104-0061", "13"), place("京都市", "600-8216", "26")],
};

const POLAND: Market = Market {
    currency: "PLN",
    exponent: 2,
    tax_permille: 230,
    tax_name: "VAT",
    country: "PL",
    country_name: "Polska",
    locale: "pl-PL",
    first_names: &["Łucja", "Bożena", "Świętosława", "Michał"],
    last_names: &["Brzęczyszczykiewicz", "Wójcik", "Żak"],
    streets: &["ul. Świętokrzyska", "al. Niepodległości"],
    places: &[place("Łódź", "90-001", "LD"), place("Gdańsk", "80-001", "PM")],
};

const KUWAIT: Market = Market {
    currency: "KWD",
    exponent: 3,
    tax_permille: 50,
    tax_name: "ضريبة",
    country: "KW",
    country_name: "الكويت",
    locale: "ar-KW",
    first_names: &["نورة", "فهد", "مريم"],
    last_names: &["الصباح", "المطيري"],
    streets: &["شارع سالم المبارك", "شارع الخليج العربي"],
    places: &[place("مدينة الكويت", "13001", "KU"), place("حولي", "30000", "HW")],
};

/// What is for sale: code, name, variant, price in minor units.
pub(super) const PRODUCTS: &[(&str, &str, &str, i64)] = &[
    ("TEE-ORG-BLK-M", "Organic Cotton Tee", "Black / M", 2495),
    ("TEE-ORG-ROSÉ-S", "Organic Cotton Tee", "Rosé / S", 2495),
    ("MUG-ENAMEL-12", "Enamel Mug “Früh auf”", "12 oz", 1450),
    ("BOOT-TRAIL-44", "Trail Boot Ångström", "44 ⅔", 18900),
    ("LAMP-PAPER-L", "紙の提灯 Paper Lantern", "L", 6480),
    ("KNIFE-CHEF-20", "Chef's Knife 8\"", "20 cm", 12999),
    ("GIFT-WRAP", "Gift Wrapping 🎁", "", 399),
    ("SOAP-OLV-3", "Savon à l'olive <bio>", "3 × 100 g", 1133),
    ("PHONE-CASE-13", "Phone Case & Strap", "Sage", 2999),
    ("BOOK-9783161484100", "Der Zauberberg (gebunden)", "", 3600),
    ("STICKER-FREE", "Sticker, free with every order", "", 0),
    ("JACKET-DOWN-XL", "Down Jacket “Polar”", "XL / Midnight", 34950),
    ("CABLE-USBC-2M", "USB-C Cable", "2 m", 1999),
    ("TEA-SENCHA-100", "煎茶 Sencha", "100 g", 1675),
];

/// Coupons: code and percent.
pub(super) const COUPONS: &[(&str, i64)] =
    &[("BLACKFRIDAY", 20), ("WILLKOMMEN10", 10), ("VIP5", 5)];

/// Notes a shopper leaves.
pub(super) const NOTES: &[&str] = &[
    "",
    "",
    "Please ring twice 🙂",
    "Bitte im Hausflur abstellen – danke!",
    "It's a gift: no invoice in the parcel, \"please\".",
    "C:\\orders\\backslash and\ttab",
];
