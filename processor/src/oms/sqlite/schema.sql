-- Order summaries, version 1. Tables and columns are named after the Salesforce Order Management objects, in
-- snake case. STRICT, so that money (decimal TEXT, every digit as given) can never turn into a float.
-- `position` is the index in the summary's list, from 0.

CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    -- Trimmed and lower-cased; the one key a shopper is found by. An order without e-mail has no account.
    email_normalised TEXT NOT NULL UNIQUE,
    is_person_account INTEGER NOT NULL,
    name TEXT,
    person_email TEXT,
    first_name TEXT,
    last_name TEXT,
    company TEXT,
    phone TEXT,
    customer_id TEXT
) STRICT;

CREATE TABLE order_summary (
    -- Order of commits: one writer, so a later commit has a larger number; never used twice.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The identity, channel:source:id.
    external_reference_identifier TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    fingerprint_version INTEGER NOT NULL,
    order_number TEXT NOT NULL,
    order_life_cycle_type TEXT NOT NULL,
    currency_iso_code TEXT NOT NULL,
    tax_locale_type TEXT NOT NULL,
    ordered_date_text TEXT NOT NULL,
    ordered_date_ms INTEGER,
    account_id INTEGER REFERENCES account (id),
    -- The shopper as this order gives them, whatever the account says.
    shopper_email_normalised TEXT,
    billing_email_address TEXT,
    shopper_name TEXT,
    shopper_first_name TEXT,
    shopper_last_name TEXT,
    shopper_company TEXT,
    billing_phone_number TEXT,
    shopper_customer_id TEXT,
    -- 1 where the order has a billing address, be it an empty one.
    has_billing INTEGER NOT NULL,
    billing_name TEXT,
    billing_company TEXT,
    billing_address1 TEXT,
    billing_address2 TEXT,
    billing_city TEXT,
    billing_postal_code TEXT,
    billing_state TEXT,
    billing_country TEXT,
    billing_address_phone TEXT,
    total_product_amount TEXT NOT NULL,
    total_delivery_amount TEXT NOT NULL,
    total_fee_amount TEXT NOT NULL,
    total_line_adjustment_amount TEXT NOT NULL,
    total_adj_dist_amount TEXT NOT NULL,
    total_amount TEXT NOT NULL,
    total_tax_amount TEXT NOT NULL,
    grand_total_amount TEXT NOT NULL,
    stated_grand_total TEXT,
    stated_tax_total TEXT,
    stated_shipping_total TEXT,
    stated_discount_total TEXT,
    -- Stated grand total less the parts.
    difference TEXT NOT NULL,
    -- JSON array of words.
    oddities TEXT NOT NULL,
    -- Microseconds since 1970, taken once per transaction, before its first insert.
    committed_at_us INTEGER NOT NULL
) STRICT;

CREATE TABLE order_delivery_group_summary (
    id INTEGER PRIMARY KEY,
    order_summary_id INTEGER NOT NULL REFERENCES order_summary (id),
    position INTEGER NOT NULL,
    shipment_id TEXT,
    order_delivery_method TEXT,
    -- 1 where the group has a ship-to, be it an empty one.
    has_address INTEGER NOT NULL,
    deliver_to_name TEXT,
    deliver_to_company TEXT,
    deliver_to_address1 TEXT,
    deliver_to_address2 TEXT,
    deliver_to_city TEXT,
    deliver_to_postal_code TEXT,
    deliver_to_state TEXT,
    deliver_to_country TEXT,
    phone_number TEXT,
    UNIQUE (order_summary_id, position)
) STRICT;

CREATE TABLE order_adjustment_group_summary (
    id INTEGER PRIMARY KEY,
    order_summary_id INTEGER NOT NULL REFERENCES order_summary (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (order_summary_id, position)
) STRICT;

CREATE TABLE order_item_summary (
    id INTEGER PRIMARY KEY,
    order_summary_id INTEGER NOT NULL REFERENCES order_summary (id),
    line_number INTEGER NOT NULL,
    -- product, delivery_charge, fee or difference.
    type TEXT NOT NULL,
    order_delivery_group_summary_id INTEGER REFERENCES order_delivery_group_summary (id),
    product_code TEXT NOT NULL,
    name TEXT NOT NULL,
    quantity TEXT NOT NULL,
    unit_price TEXT NOT NULL,
    total_line_amount TEXT NOT NULL,
    UNIQUE (order_summary_id, line_number)
) STRICT;

CREATE TABLE order_item_adjustment_line_summary (
    id INTEGER PRIMARY KEY,
    order_item_summary_id INTEGER NOT NULL REFERENCES order_item_summary (id),
    position INTEGER NOT NULL,
    -- NULL for an adjustment of this line alone.
    order_adjustment_group_summary_id INTEGER REFERENCES order_adjustment_group_summary (id),
    name TEXT NOT NULL,
    amount TEXT NOT NULL,
    total_tax_amount TEXT NOT NULL,
    UNIQUE (order_item_summary_id, position)
) STRICT;

CREATE TABLE order_item_tax_line_item_summary (
    id INTEGER PRIMARY KEY,
    order_item_summary_id INTEGER NOT NULL REFERENCES order_item_summary (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    -- As a fraction.
    rate TEXT,
    amount TEXT NOT NULL,
    UNIQUE (order_item_summary_id, position)
) STRICT;

CREATE TABLE order_payment_summary (
    id INTEGER PRIMARY KEY,
    order_summary_id INTEGER NOT NULL REFERENCES order_summary (id),
    position INTEGER NOT NULL,
    method TEXT NOT NULL,
    amount TEXT,
    -- unknown, authorised or captured.
    state TEXT NOT NULL,
    gateway_reference TEXT,
    UNIQUE (order_summary_id, position)
) STRICT;
