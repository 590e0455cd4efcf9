// Compiled after helpers.cpp, when the first odd file is written (see environment.py): trees in which names,
// places and types are not what they seem. Each function writes one file with the tree `events`.

#include <TBranch.h>
#include <TClonesArray.h>
#include <TFile.h>
#include <TNamed.h>
#include <TString.h>
#include <TTree.h>

#include <map>
#include <string>
#include <variant>
#include <vector>

namespace rootfeed_test {

constexpr int odd_entries = 300;

struct Inner {
   int n;
   float v;
};

struct Shadowed {
   float x;
   int base;
};

struct Shadowing : Shadowed {
   float x;
};

// Two branches of each name, of one type and of two, in both orders; names that a leaf has, too.
void write_same_names(const char *path, bool twice)
{
   TFile file(path, "recreate");
   TTree tree("events", "");
   double a = 0, b = 0;
   std::vector<float> v, w;
   std::vector<std::vector<float>> m;
   struct {
      float x, y;
   } leaves;
   Inner inner, other;
   tree.Branch("number", &a, "number/D", 500);
   tree.Branch("vector", &v, 500);
   tree.Branch("scalar_then_nested", &a, "scalar_then_nested/D", 500);
   tree.Branch("nested_then_scalar", &m, 500);
   tree.Branch("leaves", &leaves, "x/F:y/F", 500);
   tree.Branch("object.", &inner, 500);
   if (twice) {
      tree.Branch("number", &b, "number/D", 500);
      tree.Branch("vector", &w, 500);
      tree.Branch("scalar_then_nested", &m, 500);
      tree.Branch("nested_then_scalar", &b, "nested_then_scalar/D", 500);
      tree.Branch("leaves.x", &b, "leaves.x/D", 500);
      tree.Branch("object", &other, 500);
   }
   for (int i = 0; i < odd_entries; ++i) {
      a = i;
      b = 1000 + i;
      v.assign(i % 3, i);
      w.assign(1 + i % 3, 1000 + i);
      m = {{1.f * i}, {}, {2.f * i, 3.f}};
      leaves = {1.f * i, -1.f * i};
      inner = {i, 0.5f * i};
      other = {1000 + i, 1000.f};
      tree.Fill();
   }
   tree.Write();
}

// A branch that only uproot reads, after a split object with a member of its name.
void write_shadowed(const char *path)
{
   TFile file(path, "recreate");
   TTree tree("events", "");
   Inner inner;
   std::vector<std::string> n;
   tree.Branch("object", &inner, 500);
   tree.Branch("n", &n, 500);
   for (int i = 0; i < odd_entries; ++i) {
      inner = {1000 + i, 0.f};
      n = {std::to_string(i)};
      tree.Fill();
   }
   tree.Write();
}

// An RNTuple of a class that has a member of its base class's name.
void write_shadowing(const char *path)
{
   auto model = ROOT::RNTupleModel::Create();
   auto object = model->MakeField<Shadowing>("object");
   auto writer = ROOT::RNTupleWriter::Recreate(std::move(model), "events", path);
   object->Shadowed::x = 1;
   object->base = 2;
   object->x = 3;
   writer->Fill();
}

// An RNTuple of values that are integers or reals, in some clusters.
void write_variants(const char *path, int cluster_entries)
{
   auto model = ROOT::RNTupleModel::Create();
   auto plain = model->MakeField<std::variant<int, float>>("plain");
   auto listed = model->MakeField<std::vector<std::variant<int, float>>>("listed");
   auto number = model->MakeField<int>("number");
   auto writer = ROOT::RNTupleWriter::Recreate(std::move(model), "events", path);
   for (int i = 0; i < odd_entries; ++i) {
      if (i % 3)
         *plain = i;
      else
         *plain = i + 0.5f;
      listed->assign(i % 4, *plain);
      *number = i;
      writer->Fill();
      if (i % cluster_entries == cluster_entries - 1)
         writer->CommitCluster();
   }
}

// Two columns of one type and size, and what ROOT splits.
void write_pair(const char *path, const char *tree_name, const char *first, const char *second, int compression)
{
   TFile file(path, "recreate", "", compression);
   TTree tree(tree_name, "");
   double a = 0, b = 0;
   std::vector<std::vector<float>> nested;
   Inner inner;
   tree.Branch(first, &a, (std::string(first) + "/D").c_str(), 500);
   tree.Branch(second, &b, (std::string(second) + "/D").c_str(), 500);
   tree.Branch("nested", &nested, 500);
   tree.Branch("dotted.", &inner, 500);
   tree.Branch("plain", &inner, 500);
   for (int i = 0; i < odd_entries; ++i) {
      a = i;
      b = 1000 + i;
      nested.assign(i % 3, {1.f * i, 2.f});
      inner = {i, 0.5f * i};
      tree.Fill();
   }
   tree.Write();
}

// Baskets are copied as they are, with the names that they had.
void copy_renamed(const char *from, const char *to, const char *tree_name, const char *branch, const char *name,
                  bool leaf, const char *new_tree)
{
   TFile source(from);
   auto tree = source.Get<TTree>(tree_name);
   auto renamed = tree->GetBranch(branch);
   renamed->SetName(name);
   if (leaf)
      static_cast<TLeaf *>(renamed->GetListOfLeaves()->At(0))->SetName(name);
   TFile target(to, "recreate");
   auto copy = tree->CloneTree(-1, "fast");
   copy->SetName(new_tree);
   copy->Write();
}

void rename(const char *path, const char *branch, const char *name)
{
   TFile file(path, "update");
   auto tree = file.Get<TTree>("events");
   tree->GetBranch(branch)->SetName(name);
   tree->Write("", TObject::kOverwrite);
}

// Gives two branches each other's name, in the file's metadata alone.
void exchange_names(const char *path, const char *first, const char *second)
{
   TFile file(path, "update");
   auto tree = file.Get<TTree>("events");
   auto a = tree->GetBranch(first), b = tree->GetBranch(second);
   a->SetName(second);
   b->SetName(first);
   tree->Write("", TObject::kOverwrite);
}

void write_to_other_file(const char *path, const char *other, const char *branch)
{
   TFile file(path, "recreate");
   TTree tree("events", "");
   double a = 0, b = 0;
   std::vector<std::vector<float>> nested;
   Inner inner;
   tree.Branch("a", &a, "a/D", 500);
   tree.Branch("b", &b, "b/D", 500);
   tree.Branch("nested", &nested, 500);
   tree.Branch("inner", &inner, 500);
   tree.GetBranch(branch)->SetFile(other);
   for (int i = 0; i < odd_entries; ++i) {
      a = i;
      b = 1000 + i;
      nested.assign(i % 3, {1.f * i});
      inner = {i, 0.5f * i};
      tree.Fill();
   }
   tree.Write();
}

// Texts that are empty now and then, and arrays of several dimensions.
void write_texts_and_arrays(const char *path, int compression)
{
   TFile file(path, "recreate", "", compression);
   TTree tree("events", "");
   int n = 0;
   char text[600] = "", fixed[12] = "";
   std::string string;
   TString t_string, *to_t_string = &t_string;
   float reals[60];
   double doubles[60];
   struct {
      float a[2][2];
      int b;
      float c[3];
   } list;
   tree.Branch("n", &n, "n/I", 500);
   tree.Branch("text", text, "text/C", 2000);
   tree.Branch("fixed", fixed, "fixed[12]/C", 500);
   tree.Branch("string", &string, 2000);
   tree.Branch("t_string", "TString", &to_t_string, 2000);
   tree.Branch("counted", reals, "counted[n][3]/F", 2000);
   tree.Branch("flat", reals, "flat[3]/f", 500);
   tree.Branch("plane", reals, "plane[2][3]/F", 500);
   tree.Branch("packed_counted", reals, "packed_counted[n][3]/f", 2000);
   tree.Branch("packed_counted_range", doubles, "packed_counted_range[n][3]/d[0,1000,16]", 2000);
   tree.Branch("packed_plane", reals, "packed_plane[2][3]/f", 500);
   tree.Branch("packed_plane_range", doubles, "packed_plane_range[2][3]/d[0,1000]", 500);
   tree.Branch("list", &list, "a[2][2]/F:b/I:c[3]/F", 500);
   for (int i = 0; i < odd_entries; ++i) {
      n = i % 4;
      std::string value(i % 50 == 49 ? 500 : i % 5, static_cast<char>('a' + i % 26));
      std::strcpy(text, value.c_str());
      std::strcpy(fixed, value.substr(0, 11).c_str());
      string = value;
      t_string = value.c_str();
      for (int k = 0; k < 60; ++k)
         reals[k] = doubles[k] = i + k;
      for (int k = 0; k < 4; ++k)
         list.a[k / 2][k % 2] = i + k;
      list.b = -i;
      for (int k = 0; k < 3; ++k)
         list.c[k] = i - k;
      tree.Fill();
   }
   tree.Write();
}

// A basket that stays inside the tree's record.
void write_embedded_texts(const char *path)
{
   TFile file(path, "recreate");
   TTree tree("events", "");
   char text[600];
   tree.Branch("text", text, "text/C", 2000);
   for (int i = 0; i < odd_entries; ++i) {
      std::strcpy(text, std::string(i % 50 == 49 ? 500 : i % 5, static_cast<char>('a' + i % 26)).c_str());
      tree.Fill();
   }
   file.WriteTObject(&tree);
}

// What uproot does not read, or reads as something else.
void write_exotic(const char *path, int compression)
{
   TFile file(path, "recreate", "", compression);
   TTree tree("events", "");
   std::map<std::string, int> map;
   TClonesArray named("TNamed");
   std::vector<std::vector<float>> common;
   tree.Branch("map", &map, 2000, 0);
   tree.Branch("named", &named, 2000, 99);
   tree.Branch("common", &common, 2000);
   for (int i = 0; i < odd_entries; ++i) {
      map.clear();
      for (int k = 0; k < i % 4; ++k)
         map[std::to_string(k)] = i;
      named.Clear();
      for (int k = 0; k < i % 3; ++k)
         new (named[k]) TNamed(std::to_string(i).c_str(), "title");
      common.assign(i % 3, {1.f * i, 2.f});
      tree.Fill();
   }
   tree.Write();
}

struct LayoutA {
   int n;
   float v;
};

struct LayoutB {
   float v;
   double more;
   int n;
};

// One object in each entry, whose layout only the file's streamers tell.
void write_unsplit(const char *path, bool other)
{
   TFile file(path, "recreate", "", 0);
   TTree tree("events", "");
   LayoutA a, *to_a = &a;
   LayoutB b, *to_b = &b;
   if (other)
      tree.Branch("object", &to_b, 2000, 0);
   else
      tree.Branch("object", &to_a, 2000, 0);
   for (int i = 0; i < odd_entries; ++i) {
      a = {i, 0.5f * i};
      b = {0.5f * i, 2.5, i};
      tree.Fill();
   }
   tree.Write();
}

void write_friends(const char *path, const char *other)
{
   {
      TFile file(other, "recreate");
      TTree scores("scores", "");
      double score = 0;
      scores.Branch("score", &score);
      for (int i = 0; i < odd_entries; ++i)
         scores.Fill();
      scores.Write();
   }
   TFile file(path, "recreate");
   TTree own("own", "");
   double q = 0, x = 0;
   own.Branch("q", &q);
   TTree tree("events", "");
   tree.Branch("x", &x);
   for (int i = 0; i < odd_entries; ++i) {
      own.Fill();
      tree.Fill();
   }
   own.Write();
   tree.AddFriend("scores", other);
   tree.AddFriend("alias = own");
   tree.Write();
}

} // namespace rootfeed_test
