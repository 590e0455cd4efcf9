// Compiled by ROOT's interpreter when the first test file is written or read (see environment.py).
// Values travel as bytes: a NumPy array and a branch or field of the same layout, so that no conversion
// of Python's or of ours stands between the test and ROOT.

#include <ROOT/RNTuple.hxx>
#include <ROOT/RNTupleModel.hxx>
#include <ROOT/RNTupleReader.hxx>
#include <ROOT/RNTupleWriteOptions.hxx>
#include <ROOT/RNTupleWriter.hxx>
#include <TBranchElement.h>
#include <TClass.h>
#include <TDataMember.h>
#include <TEnum.h>
#include <TFile.h>
#include <TLeaf.h>
#include <TNtuple.h>
#include <TNtupleD.h>
#include <TStreamerElement.h>
#include <TTree.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace rootfeed_test {

// ---------------------------------------------------------------------------------------- classes written

enum class Narrow : std::int8_t { lowest = -128, minus_one = -1, zero = 0, highest = 127 };
enum class Unsigned : std::uint16_t { zero = 0, high = 65535 };
enum class Wide : std::int64_t { lowest = INT64_MIN, zero = 0, highest = INT64_MAX };
enum class Scoped { minus_five = -5, zero = 0, seven = 7 };
enum Plain { plain_minus_five = -5, plain_zero = 0, plain_seven = 7 };
enum PlainShort : short { short_minus_five = -5, short_zero = 0, short_seven = 7 };

struct Point {
   float x;
   double y;
};

struct Base {
   int number;
   float weight;
};

// Everything that a split class can hold as one scalar. The comments after the members are ROOT's: they
// give the range and the bits of Double32_t and Float16_t.
struct Members : Base {
   bool flag;
   char letter;
   signed char int8;
   unsigned char uint8;
   short int16;
   unsigned short uint16;
   int int32;
   unsigned int uint32;
   long int64;
   unsigned long uint64;
   Long64_t long64;
   ULong64_t ulong64;
   float float32;
   double float64;
   Double32_t double32;
   Double32_t double32_range20; //[-10,10,20]
   Double32_t double32_range; //[-pi,pi]
   Double32_t double32_bits14; //[0,0,14]
   Float16_t float16;
   Float16_t float16_range9; //[0,10,9]
   Float16_t float16_bits10; //[0,0,10]
   Plain plain;
   Scoped scoped;
   Narrow narrow;
   PlainShort plain_short;
   Unsigned unsigned_;
   Point point;
};

// RNTuple knows no ranges in comments, but enumerations of any width.
struct Record : Base {
   float x;
   double y;
   std::int16_t n;
   bool flag;
   Narrow narrow;
   Point point;
};

// ------------------------------------------------------------------------------------------------ filling

// Where the bytes of each column come from and which address ROOT reads at every Fill().
struct Rows {
   struct Column {
      std::uintptr_t from, to;
      std::size_t bytes;
   };
   struct Collection {
      std::uintptr_t sizes;
      std::vector<float> *to;
   };
   std::vector<Column> columns;
   std::vector<Collection> collections;
   std::vector<std::function<void(std::size_t)>> loaders;

   void add(std::uintptr_t from, std::uintptr_t to, std::size_t bytes) { columns.push_back({from, to, bytes}); }
   void load(std::size_t entry) const
   {
      for (const auto &column : columns) {
         std::memcpy(reinterpret_cast<void *>(column.to),
                     reinterpret_cast<const char *>(column.from) + entry * column.bytes, column.bytes);
      }
      for (const auto &collection : collections)
         collection.to->assign(reinterpret_cast<const std::uint8_t *>(collection.sizes)[entry], 0.5f);
      for (const auto &loader : loaders)
         loader(entry);
   }
};

void fill_tree(TTree &tree, const Rows &rows, std::size_t start, std::size_t stop)
{
   for (auto entry = start; entry < stop; ++entry) {
      rows.load(entry);
      tree.Fill();
   }
}

// Writes a TNtuple (float32) or TNtupleD (float64) from a row-major matrix of `columns` columns.
template <typename Tuple, typename Value>
void write_tuple(TDirectory &directory, const char *name, const char *variables, std::uintptr_t values,
                 std::size_t entries, std::size_t columns)
{
   directory.cd();
   Tuple tuple(name, name, variables, 2000);
   for (std::size_t entry = 0; entry < entries; ++entry)
      tuple.Fill(reinterpret_cast<const Value *>(values) + entry * columns);
   tuple.Write();
}

// Adds a branch for an object of an interpreted class and returns the object's address. The object and
// the pointer to it live as long as the process: ROOT keeps both addresses.
std::uintptr_t add_object(TTree &tree, const char *name, const char *class_name, int basket_bytes, int split)
{
   auto address = new void *;
   *address = TClass::GetClass(class_name)->New();
   tree.Bronch(name, class_name, address, basket_bytes, split);
   return reinterpret_cast<std::uintptr_t>(*address);
}

std::size_t member_offset(const char *class_name, const char *member)
{
   return TClass::GetClass(class_name)->GetDataMemberOffset(member);
}

// Writing the tree's own key, without TTree::Write, leaves the baskets that are not full inside the branches.
void write_embedded(TDirectory &directory, TTree &tree)
{
   directory.WriteTObject(&tree);
}

// ------------------------------------------------------------------------------------------- RNTuple writer

using Encodings = std::vector<std::vector<int>>;

ROOT::RFieldBase::RColumnRepresentations::Selection_t selection(const Encodings &encodings)
{
   ROOT::RFieldBase::RColumnRepresentations::Selection_t result;
   for (const auto &columns : encodings) {
      result.emplace_back();
      for (auto column : columns)
         result.back().push_back(static_cast<ROOT::ENTupleColumnType>(column));
   }
   return result;
}

// The column types that ROOT can write a field of this C++ type with, one column a field.
std::vector<int> permitted_encodings(const std::string &type)
{
   std::vector<int> result;
   for (int column = 1; column < static_cast<int>(ROOT::ENTupleColumnType::kMax); ++column) {
      auto field = ROOT::RFieldBase::Create("field", type).Unwrap();
      try {
         field->SetColumnRepresentatives(selection({{column}}));
         result.push_back(column);
      } catch (const ROOT::RException &) {
      }
   }
   return result;
}

template <typename Real>
bool set_precision(ROOT::RFieldBase &field, std::size_t bits, double low, double high)
{
   auto real = dynamic_cast<ROOT::RField<Real> *>(&field);
   if (real && low < high)
      real->SetQuantized(bits, std::pair<Real, Real>(low, high));
   else if (real)
      real->SetTruncated(bits);
   return real != nullptr;
}

std::unique_ptr<ROOT::RFieldBase> make_field(const std::string &name, const std::string &type,
                                             const Encodings &encodings, std::size_t bits, double low, double high)
{
   auto field = ROOT::RFieldBase::Create(name, type).Unwrap();
   // The width first: setting it also replaces the encodings.
   if (bits && !set_precision<float>(*field, bits, low, high) && !set_precision<double>(*field, bits, low, high))
      throw std::runtime_error("only float and double take a width: " + type);
   if (!encodings.empty()) {
      // Of an enumeration and of std::atomic it is the integer inside that has the column.
      auto subfields = field->GetMutableSubfields();
      auto target = subfields.empty() ? field.get() : subfields[0];
      target->SetColumnRepresentatives(selection(encodings));
   }
   return field;
}

// Drives ROOT::RNTupleWriter from Python: fields, then open, then fill and commit clusters.
class NtupleWriter {
   std::unique_ptr<ROOT::RNTupleModel> model = ROOT::RNTupleModel::CreateBare();
   std::unique_ptr<ROOT::RNTupleWriter> writer;
   std::unique_ptr<ROOT::REntry> entry;
   std::vector<std::pair<std::string, std::uintptr_t>> addresses;
   std::vector<std::unique_ptr<std::vector<float>>> collections;

   void bind()
   {
      entry = writer->GetModel().CreateBareEntry();
      for (const auto &[name, address] : addresses)
         entry->BindRawPtr<void>(name, reinterpret_cast<void *>(address));
   }

public:
   ROOT::RNTupleWriteOptions options;

   void add(const std::string &name, const std::string &type, std::uintptr_t address, const Encodings &encodings,
            std::size_t bits, double low, double high)
   {
      add_field(make_field(name, type, encodings, bits, low, high), address);
   }

   void add_field(std::unique_ptr<ROOT::RFieldBase> field, std::uintptr_t address)
   {
      addresses.emplace_back(field->GetFieldName(), address);
      if (!writer) {
         model->AddField(std::move(field));
         return;
      }
      auto updater = writer->CreateModelUpdater();
      updater->BeginUpdate();
      updater->AddField(std::move(field));
      updater->CommitUpdate();
      bind();
   }

   // A collection of floats, `sizes[entry]` of them (uint8) in an entry.
   void add_collection(const std::string &name, Rows &rows, std::uintptr_t sizes)
   {
      collections.push_back(std::make_unique<std::vector<float>>());
      rows.collections.push_back({sizes, collections.back().get()});
      add(name, "std::vector<float>", reinterpret_cast<std::uintptr_t>(collections.back().get()), {}, 0, 0, 0);
   }

   // A projected field that shows the sizes of the collection `source`.
   void add_sizes(const std::string &name, const std::string &source)
   {
      auto field = std::make_unique<ROOT::RField<ROOT::RNTupleCardinality<std::uint64_t>>>(name);
      model->AddProjectedField(std::move(field), [&](const std::string &) { return source; });
   }

   // An alias: a projected field of the same type, without columns of its own.
   void add_alias(const std::string &name, const std::string &type, const std::string &source)
   {
      auto field = ROOT::RFieldBase::Create(name, type).Unwrap();
      // A subfield, `name._0`, is that of the source.
      model->AddProjectedField(std::move(field),
                               [&](const std::string &target) { return source + target.substr(name.size()); });
   }

   void append_to(TDirectory &directory, const std::string &name)
   {
      writer = ROOT::RNTupleWriter::Append(std::move(model), name, directory, options);
      bind();
   }

   void recreate(const std::string &path, const std::string &name)
   {
      writer = ROOT::RNTupleWriter::Recreate(std::move(model), name, path, options);
      bind();
   }

   void fill(const Rows &rows, std::size_t start, std::size_t stop)
   {
      for (auto number = start; number < stop; ++number) {
         rows.load(number);
         writer->Fill(*entry);
      }
   }

   void commit_cluster(bool and_group) { writer->CommitCluster(and_group); }

   // ROOT's own tests choose among a field's encodings this way; fast merging does it for real files.
   void use_encoding(const std::string &name, int number)
   {
      auto &field = const_cast<ROOT::RFieldBase &>(writer->GetModel().GetConstField(name));
      ROOT::Internal::RFieldRepresentationModifier::SetPrimaryColumnRepresentation(field, number);
   }

   void close()
   {
      entry.reset();
      writer.reset();
   }
};

// ------------------------------------------------------------------------------------------------ reading

// The address at which TTree::GetEntry puts the value of a leaf. TLeafElement::GetValuePointer fails for
// members of classes that have no compiled dictionary.
const void *value_address(TLeaf &leaf)
{
   auto branch = dynamic_cast<TBranchElement *>(leaf.GetBranch());
   if (!branch)
      return leaf.GetValuePointer();
   return branch->GetObject() + branch->GetOffset() + branch->GetInfo()->GetElementOffset(branch->GetID());
}

// ROOT's own reading of one leaf: `bytes` bytes an entry, where TTree::GetEntry put them.
void read_leaf(TLeaf &leaf, std::uintptr_t out, std::size_t bytes, std::size_t entries)
{
   auto branch = leaf.GetBranch();
   for (std::size_t entry = 0; entry < entries; ++entry) {
      branch->GetEntry(entry);
      std::memcpy(reinterpret_cast<char *>(out) + entry * bytes, value_address(leaf), bytes);
   }
}

// The C++ type of a class member behind a leaf: leaves call every enumeration Int_t, whatever its width.
std::string member_type(TLeaf &leaf)
{
   auto branch = dynamic_cast<TBranchElement *>(leaf.GetBranch());
   if (!branch || !branch->GetInfo() || branch->GetID() < 0)
      return leaf.GetTypeName();
   auto element = branch->GetInfo()->GetElement(branch->GetID());
   auto enumeration = TEnum::GetEnum(element->GetTypeName());
   return enumeration ? TDataType::GetTypeName(enumeration->GetUnderlyingType()) : leaf.GetTypeName();
}

// The fields of an RNTuple that hold one scalar an entry: a name to call them, ROOT's name and the C++
// type, in turns. An enumeration or std::atomic lends its name to the integer inside, which ROOT calls `._0`.
void list_scalars(const ROOT::RNTupleDescriptor &descriptor, ROOT::DescriptorId_t parent,
                  const std::string &wrapper, std::vector<std::string> &out)
{
   for (const auto &field : descriptor.GetFieldIterable(parent)) {
      auto name = descriptor.GetQualifiedFieldName(field.GetId());
      auto shown = wrapper.empty() ? name : wrapper;
      auto inner = field.GetLinkIds().size();
      auto structure = field.GetStructure();
      if (field.GetNRepetitions() > 0) {
         continue;
      } else if (structure == ROOT::ENTupleStructure::kRecord) {
         list_scalars(descriptor, field.GetId(), "", out);
      } else if (structure == ROOT::ENTupleStructure::kPlain && inner == 1) {
         list_scalars(descriptor, field.GetId(), shown, out);
      } else if (structure == ROOT::ENTupleStructure::kPlain && inner == 0) {
         out.insert(out.end(), {shown, name, field.GetTypeName()});
      }
   }
}

// ROOT's own reading of fields, as the C++ types that the file names.
class NtupleReader {
   std::unique_ptr<ROOT::RNTupleReader> reader;

public:
   NtupleReader(const std::string &name, const std::string &path) : reader(ROOT::RNTupleReader::Open(name, path)) {}

   std::size_t entries() const { return reader->GetNEntries(); }

   std::vector<std::string> scalars() const
   {
      std::vector<std::string> out;
      const auto &descriptor = reader->GetDescriptor();
      list_scalars(descriptor, descriptor.GetFieldZeroId(), "", out);
      return out;
   }

   void read(const std::string &name, const std::string &type, std::uintptr_t out, std::size_t bytes) const
   {
      alignas(16) unsigned char value[16];
      auto view = reader->GetView(name, value, type);
      for (std::size_t entry = 0; entry < entries(); ++entry) {
         view(entry);
         std::memcpy(reinterpret_cast<char *>(out) + entry * bytes, value, bytes);
      }
   }
};

} // namespace rootfeed_test
