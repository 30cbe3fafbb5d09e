-- Order summaries, version 1: the tables of the SQLite target. Tables and columns are named after the Salesforce Order
-- Management objects, in snake case. Money is numeric, which keeps every digit as given. `position` is the index in the summary's list, from 0.

CREATE TABLE account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Trimmed and lower-cased; the one key a shopper is found by. An order without e-mail has no account.
    email_normalised text NOT NULL UNIQUE,
    is_person_account boolean NOT NULL,
    name text,
    person_email text,
    first_name text,
    last_name text,
    company text,
    phone text,
    customer_id text
);

CREATE TABLE order_summary (
    -- Never used twice. Of two that were committed at about the same time the later one may have the smaller number.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The identity, channel:source:id.
    external_reference_identifier text NOT NULL UNIQUE,
    fingerprint bytea NOT NULL,
    fingerprint_version smallint NOT NULL,
    order_number text NOT NULL,
    order_life_cycle_type text NOT NULL,
    currency_iso_code text NOT NULL,
    tax_locale_type text NOT NULL,
    ordered_date_text text NOT NULL,
    ordered_date_ms bigint,
    account_id bigint REFERENCES account (id),
    -- The shopper as this order gives them, whatever the account says.
    shopper_email_normalised text,
    billing_email_address text,
    shopper_name text,
    shopper_first_name text,
    shopper_last_name text,
    shopper_company text,
    billing_phone_number text,
    shopper_customer_id text,
    -- True where the order has a billing address, be it an empty one.
    has_billing boolean NOT NULL,
    billing_name text,
    billing_company text,
    billing_address1 text,
    billing_address2 text,
    billing_city text,
    billing_postal_code text,
    billing_state text,
    billing_country text,
    billing_address_phone text,
    total_product_amount numeric NOT NULL,
    total_delivery_amount numeric NOT NULL,
    total_fee_amount numeric NOT NULL,
    total_line_adjustment_amount numeric NOT NULL,
    total_adj_dist_amount numeric NOT NULL,
    total_amount numeric NOT NULL,
    total_tax_amount numeric NOT NULL,
    grand_total_amount numeric NOT NULL,
    stated_grand_total numeric,
    stated_tax_total numeric,
    stated_shipping_total numeric,
    stated_discount_total numeric,
    -- Stated grand total less the parts.
    difference numeric NOT NULL,
    -- JSON array of words.
    oddities text NOT NULL,
    -- Microseconds since 1970, taken once per transaction, before its first insert.
    committed_at_us bigint NOT NULL
);

CREATE TABLE order_delivery_group_summary (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_summary_id bigint NOT NULL REFERENCES order_summary (id),
    position integer NOT NULL,
    shipment_id text,
    order_delivery_method text,
    -- True where the group has a ship-to, be it an empty one.
    has_address boolean NOT NULL,
    deliver_to_name text,
    deliver_to_company text,
    deliver_to_address1 text,
    deliver_to_address2 text,
    deliver_to_city text,
    deliver_to_postal_code text,
    deliver_to_state text,
    deliver_to_country text,
    phone_number text,
    UNIQUE (order_summary_id, position)
);

CREATE TABLE order_adjustment_group_summary (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_summary_id bigint NOT NULL REFERENCES order_summary (id),
    position integer NOT NULL,
    name text NOT NULL,
    UNIQUE (order_summary_id, position)
);

CREATE TABLE order_item_summary (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_summary_id bigint NOT NULL REFERENCES order_summary (id),
    line_number integer NOT NULL,
    -- product, delivery_charge, fee or difference.
    type text NOT NULL,
    order_delivery_group_summary_id bigint REFERENCES order_delivery_group_summary (id),
    product_code text NOT NULL,
    name text NOT NULL,
    quantity numeric NOT NULL,
    unit_price numeric NOT NULL,
    total_line_amount numeric NOT NULL,
    UNIQUE (order_summary_id, line_number)
);

CREATE TABLE order_item_adjustment_line_summary (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_item_summary_id bigint NOT NULL REFERENCES order_item_summary (id),
    position integer NOT NULL,
    -- NULL for an adjustment of this line alone.
    order_adjustment_group_summary_id bigint REFERENCES order_adjustment_group_summary (id),
    name text NOT NULL,
    amount numeric NOT NULL,
    total_tax_amount numeric NOT NULL,
    UNIQUE (order_item_summary_id, position)
);

CREATE TABLE order_item_tax_line_item_summary (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_item_summary_id bigint NOT NULL REFERENCES order_item_summary (id),
    position integer NOT NULL,
    name text NOT NULL,
    -- As a fraction.
    rate numeric,
    amount numeric NOT NULL,
    UNIQUE (order_item_summary_id, position)
);

CREATE TABLE order_payment_summary (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_summary_id bigint NOT NULL REFERENCES order_summary (id),
    position integer NOT NULL,
    method text NOT NULL,
    amount numeric,
    -- unknown, authorised or captured.
    state text NOT NULL,
    gateway_reference text,
    UNIQUE (order_summary_id, position)
);
